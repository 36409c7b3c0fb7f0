"""A run that ends in the middle loses nothing, doubles nothing and refuses nothing, wherever it ends.

Every job is done once undisturbed, which notes the states in which its runs may end. Then it is done once for each line
of code that is reached in one of them, with an end there, and must leave the same behind.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.state import selection
from pages.state.clicks import PRESSED
from qroar_core.errors import BadCheckpoint
from qroar_core.jobs import Manager
from qroar_core.models.patch import undo_scales
from tests.pages.endings import Ending, as_served
from tests.pages.visitor import clicked, go, open_folder, read, settled, texts

APP = str(Path(__file__).parents[2] / "app.py")
slow = pytest.mark.slow


@pytest.fixture
def everywhere(stages, demo_model, monkeypatch, tmp_path_factory):
    """`everywhere(before, job, left, typed={})`: `job(app)` behind `before(app)`, ended in every state in turn.

    `left(app)` is what it leaves; the labels of the jobs that ran are told besides, in order.
    """
    as_served(monkeypatch)

    def once(before, job, left, **ending):
        st.cache_resource.clear()
        undo_scales(demo_model)
        monkeypatch.setenv("QROAR_RUNS", str(tmp_path_factory.mktemp("runs")))
        app = AppTest.from_file(APP, default_timeout=60).run()
        before(app)
        ran, work = [], Manager._run
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Manager, "_run", lambda self, job, call: (ran.append(job.label), work(self, job, call))[1])
            end = Ending(patch, **ending)
            job(app)
        assert not app.exception, [e.value for e in app.exception]
        return end, (left(app), ran)

    def all_of_them(before, job, left, typed=None):
        first, wanted = once(before, job, left)
        differ, ended = {}, 0
        lines = {line: at for at, line in reversed([*enumerate(first.states)])}
        for at in sorted(lines.values()):
            end, found = once(before, job, left, at=at, typed=typed or {})
            ended += bool(end.over)  # not all: what a run shows of a job depends on how far that is
            if found != wanted:
                differ[at, end.over] = found
        assert differ == {}
        assert ended > len(lines) / 2
        return wanted

    return all_of_them


def demo(app):
    clicked(app, "Demo model")


def tune(app):
    demo(app)
    go(app, "tune")


def address(app):
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def said(app):
    return address(app), [read(e.value) for e in app.error]


@slow
def test_a_model_is_loaded_once(everywhere):
    (asked, errors), ran = everywhere(lambda app: None, demo, said)
    assert (asked, errors, ran) == ({"model": "demo"}, [], ["Load demo"])


@slow
def test_a_load_that_fails_is_tried_once_and_gives_the_model_before_back(everywhere, stages):
    real = stages.load.run

    def load(source, on_step=None, **options):
        if source != "demo":
            raise BadCheckpoint("cannot be read")
        return real(source, on_step=on_step, **options)

    stages.patch(stages.load, "run", load)
    stages.patch("qroar_core.models.smollm2.fetch", lambda *a: None)
    (asked, errors), ran = everywhere(demo, lambda app: clicked(app, "Load"), said)
    assert (asked["model"], errors, ran) == ("demo", ["cannot be read. demo is still loaded."] * 2, ["Load smollm2"])


@slow
def test_a_search_is_started_once(everywhere):
    (_, errors), ran = everywhere(tune, lambda app: clicked(app, "Start the search"), said)
    assert (errors, ran) == ([], ["Diagnose demo", "Tune demo"])


@slow
def test_a_stage_that_fails_is_not_tried_again(everywhere, stages):
    def fail(*args, **options):
        raise BadCheckpoint("no such thing")

    stages.patch(stages.diagnose, "run", fail)
    before = lambda app: (demo(app), go(app, "pressure"))  # noqa: E731
    (_, errors), ran = everywhere(before, lambda app: clicked(app, "Diagnose"), said)
    assert (errors, ran) == (["no such thing"], ["Diagnose demo"])


@slow
def test_scales_are_applied_once(everywhere, demo_model):
    left = lambda app: (demo_model.applied is not None, "tuned scales" in texts(app))  # noqa: E731
    before = lambda app: (tune(app), clicked(app, "Start the search"))  # noqa: E731
    found, ran = everywhere(before, lambda app: clicked(app, "Apply"), left)
    assert (found, ran) == ((True, True), ["Apply scales to demo's weights"])


@slow
def test_what_is_typed_in_one_field_and_then_in_the_next_both_count(everywhere):
    """The second change ends the run of the first, and is in the message that ends it."""

    def type_first(app):
        app.number_input(key="steps").set_value(50)
        settled(app.run())

    def left(app):
        asked = json.loads(address(app)["search"])
        return asked["steps"], [read(e.value) for e in app.error]

    windows = []
    everywhere(
        tune,
        type_first,
        lambda app: (windows.append(app.number_input(key="search windows").value), left(app))[1],
        typed={"search windows": 3.0},
    )
    assert windows == [6, *[3] * (len(windows) - 1)]


@slow
def test_a_run_is_opened(everywhere):
    def before(app):
        tune(app)
        clicked(app, "Start the search")
        go(app, "start")
        app.number_input(key="factor").set_value(2.0).run()
        go(app, "runs")

    (asked, errors), ran = everywhere(before, lambda app: clicked(app, "Open run"), said)
    assert '"factor":4.0' in asked["rope"]
    assert (errors, ran) == ([], [])


@slow
def test_runs_from_elsewhere_stay_picked_to_be_compared(everywhere, written, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    both = [str(written(tmp_path / name)) for name in ("one", "two")]

    def before(app):
        for path in both:
            open_folder(app, path)

    def pick(app):
        app.multiselect(key="compare").set_value(both)
        settled(app.run())

    found, _ = everywhere(before, pick, lambda app: (sorted(app.multiselect(key="compare").value), said(app)[1]))
    assert found == (sorted(both), [])


@pytest.fixture
def session(monkeypatch):
    held = {}
    monkeypatch.setattr(selection, "st", SimpleNamespace(session_state=held))
    return held


def test_what_is_picked_while_a_result_is_drawn_for_the_first_time_is_kept(session):
    selection.keep("map", "result", {"layer": 0, "head": 1})
    session["layer"] = 5  # a click ends the run before it comes to `remember`
    selection.keep("map", "result", {"layer": 0, "head": 1})
    selection.remember("map", "result", "layer", "head")
    assert session == {"layer": 5, "head": 1, "map": ("result", {"layer": 5, "head": 1})}
    selection.keep("map", "another result", {"layer": 2, "head": 0})
    assert (session["layer"], session["head"]) == (2, 0)


def test_what_an_address_could_not_have_is_said_by_every_run_until_another_choice(stages, monkeypatch):
    as_served(monkeypatch)
    other = AppTest.from_file(APP, default_timeout=30)
    other.query_params["run"] = "nothing-here"
    for _ in range(2):
        other.run()
        (only,) = other.warning
        assert read(only.value).startswith("The run of this address cannot be opened. nothing-here: no such run here")
    clicked(other, "Demo model")
    assert not other.warning


def test_a_click_whose_page_was_left_is_said_by_every_run_of_the_next_page(stages, monkeypatch):
    as_served(monkeypatch)
    app = AppTest.from_file(APP, default_timeout=30).run()
    app.session_state[PRESSED] = {"Diagnose": ("another page", "Diagnose")}
    for _ in range(2):
        app.run()
        (only,) = app.warning
        assert read(only.value).startswith("“Diagnose” was clicked, but its page was left before it began")
    assert app.session_state[PRESSED] == {}
