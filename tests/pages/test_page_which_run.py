"""Several runs of one setting: what Runs calls in view is what every page shows; a deleted run leaves no number."""

import json
import math
import shutil

import pytest

from pages.state.session import manager
from qroar_core.evaluation.result import Evaluation
from qroar_core.runs.store import runs_root
from tests.helpers import planted
from tests.pages.visitor import clicked, go, open_folder, texts, unevaluated, visit

pytestmark = pytest.mark.slow
NLL = (2.1, 2.6, 2.35)  # of planted.evaluation
PAGES = ("tune", "evaluate", "export")


@pytest.fixture
def run_of(written):
    """A run whose name stands in its search's reason and whose perplexities are its own; the later, the newer."""
    made = []

    def make(name, root=None):
        made.append(name)
        path = written((root or runs_root()) / name)
        _rewrite(path / "manifest.json", lambda said: said.update(date=f"2026-11-{len(made):02d}T00:00:00+00:00"))
        _rewrite(path / "search.json", lambda said: _name(said, name))
        _rewrite(path / "evaluation.json", lambda said: _raise(said, len(made)))
        return path

    return make


def _rewrite(path, change):
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def _name(said, name):
    said["reason"] = said["reason"].replace("1024 tokens", f"1024 tokens of {name}")
    said["decision"]["text"] += f" of {name}"


def _raise(said, by):
    said.update(json.loads(planted.shifted(Evaluation.model_validate(said), by / 10).to_json()))


def ppl(which):
    """What Evaluate shows of the run that was made as number `which`."""
    return [f"{math.exp(nll + which / 10):.3f}" for nll in NLL]


def shows(app):
    """Whose search Tune and Export speak of, and the perplexities of Evaluate."""
    go(app, "evaluate")
    numbers = [m.value for m in app.metric][:3]
    tune = {name for name in ("r_a", "r_b", "r_c", "e1") if f" of {name}" in texts(go(app, "tune"))}
    assert tune == {name for name in ("r_a", "r_b", "r_c", "e1") if f" of {name}" in texts(go(app, "export"))}
    return tune, numbers


def in_view(app):
    go(app, "runs")
    table = app.dataframe[0].value
    return [
        text.partition(" is in view")[0].strip("*") for text in texts(app).split("\n") if " is in view" in text
    ], list(table["run"][table[""] == "in view"])


def test_the_newest_run_is_what_runs_calls_in_view_and_what_every_page_shows(loaded_app, run_of):
    for at, name in enumerate(("r_a", "r_b", "r_c"), 1):  # each written while the dashboard knows the one before
        run_of(name)
        for app in (loaded_app, visit(loaded_app, model="demo")):
            assert shows(app) == ({name}, ppl(at))
            assert in_view(app) == ([name], [name])


def test_a_deleted_run_leaves_no_number_and_the_next_is_shown(loaded_app, run_of):
    paths = [run_of(name) for name in ("r_a", "r_b", "r_c")]
    assert shows(loaded_app) == ({"r_c"}, ppl(3))
    shutil.rmtree(paths[2])
    shutil.rmtree(paths[0])
    for app in (loaded_app, visit(loaded_app, model="demo")):
        assert in_view(app) == (["r_b"], ["r_b"])
        assert shows(app) == ({"r_b"}, ppl(2))
    shutil.rmtree(paths[1])
    for app in (loaded_app, visit(loaded_app, model="demo")):
        assert shows(app) == (set(), [])
        assert "Not run for this setup yet" in texts(go(app, "evaluate"))


def test_a_link_to_a_deleted_run_shows_none_of_its_numbers(loaded_app, run_of):
    path = run_of("r_a")
    assert shows(visit(loaded_app, model="demo", run="r_a")) == ({"r_a"}, ppl(1))
    assert shows(loaded_app) == ({"r_a"}, ppl(1))
    shutil.rmtree(path)
    late = visit(loaded_app, model="demo", run="r_a")
    assert "The run of this address cannot be opened" in texts(late)
    assert shows(late) == (set(), [])


def test_who_stands_on_a_run_that_is_deleted_is_told_whose_numbers_follow(loaded_app, run_of):
    run_of("r_b")
    path = run_of("r_a")
    app = visit(loaded_app, model="demo", run="r_a")
    assert shows(app) == ({"r_a"}, ppl(2))
    shutil.rmtree(path)
    assert shows(app) == ({"r_b"}, ppl(1))
    assert "Not from the run r_a, which is no longer there" in texts(go(app, "evaluate"))


def test_with_the_own_run_gone_a_folder_from_elsewhere_answers_for_every_stage(loaded_app, run_of, tmp_path):
    path = run_of("r_b")
    assert shows(loaded_app) == ({"r_b"}, ppl(1))
    shutil.rmtree(path)
    theirs = run_of("e1", tmp_path)
    open_folder(loaded_app, theirs)
    assert shows(loaded_app) == ({"e1"}, ppl(2))
    for page in PAGES:
        assert f"From the run folder {theirs}" in texts(go(loaded_app, page)), page


def test_a_newer_run_without_an_evaluation_is_in_view_as_the_pages_show_it(loaded_app, run_of):
    """Its scales are the older one's, so the older one's evaluation is of them: both are said."""
    run_of("r_a")
    unevaluated(run_of("r_b"))
    assert shows(loaded_app) == ({"r_b"}, ppl(1))
    assert in_view(loaded_app)[1] == ["r_b", "r_a"]


def test_what_was_measured_here_goes_with_its_run(loaded_app, stages):
    """Jobs of this very process: not only what was read from disk."""
    stages.patch(stages.diagnose, "run", lambda *a, **kw: planted.diagnosis())
    go(loaded_app, "tune")
    clicked(loaded_app, "Start the search")
    clicked(go(loaded_app, "evaluate"), "Evaluate")
    assert [m.value for m in loaded_app.metric][:3] == ppl(0)
    shutil.rmtree(runs_root())
    assert shows(loaded_app) == (set(), [])
    assert "No run is on disk yet" in texts(go(loaded_app, "runs"))


def test_what_no_run_could_take_says_that_it_is_in_memory_only(loaded_app, stages, run_of, tmp_path):
    theirs = run_of("e1", tmp_path)
    unevaluated(theirs)
    open_folder(loaded_app, theirs)
    clicked(go(loaded_app, "evaluate"), "Evaluate")
    assert [m.value for m in loaded_app.metric][:3] == ppl(0)
    assert "In the memory of this dashboard only" in texts(loaded_app)
    assert manager().idle()
