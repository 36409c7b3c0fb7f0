"""Whose result is this: runs from elsewhere, older ones, menus of names, jobs that need others, applied scales."""

import json
import math
import shutil
from dataclasses import replace

import pytest

from pages import jobs
from pages.jobs.applied_scales import ScalesOrigin
from pages.state import session
from pages.state.session import manager
from qroar_core.evaluation.result import Evaluation
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.runs.store import RunStore, runs_root
from qroar_core.setting import default_setting
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import identity
from tests.helpers import planted
from tests.pages.visitor import (
    Held,
    button,
    clicked,
    go,
    open_folder,
    read,
    settled,
    texts,
    unevaluated,
    visit,
    wait_for_step,
)

pytestmark = pytest.mark.slow

PPL = [f"{math.exp(x):.3f}" for x in (2.1, 2.6, 2.35)]
FOREIGN = "opened by you: not measured by this dashboard, shown to you alone"
OLDER = "of an older version, opened by you: it knows its model by a sample of its weights only (before 2026-11-28)"
TODAY = "of an older version, opened by you: it knows its model without its special tokens and its chat template"


def test_a_run_from_elsewhere_is_marked_and_shown_to_who_opened_it_alone(loaded_app, written, tmp_path, stages):
    path = written(tmp_path / "theirs")
    other = visit(loaded_app, model="demo")
    open_folder(loaded_app, path)
    (line,) = loaded_app.dataframe[0].value.set_index("run").to_dict("index").values()
    assert (line["kept"], line[""]) == ("elsewhere", "in view")
    for page in ("pressure", "tune", "evaluate", "export"):
        go(loaded_app, page)
        assert f"From the run folder {path}, {FOREIGN}" in texts(loaded_app), page
    go(loaded_app, "evaluate")
    assert [m.value for m in loaded_app.metric][:3] == PPL
    for page in ("pressure", "tune", "evaluate", "runs"):
        go(other, page)
        assert FOREIGN not in texts(other)
        assert PPL[0] not in [m.value for m in other.metric]
    assert "No run is on disk yet" in texts(other)
    assert RunStore().entries() == []


def test_what_is_measured_with_scales_from_elsewhere_goes_into_no_run_here(loaded_app, written, tmp_path, stages):
    path = written(tmp_path / "theirs")
    unevaluated(path)
    open_folder(loaded_app, path)
    go(loaded_app, "evaluate")
    assert PPL[0] not in [m.value for m in loaded_app.metric]
    clicked(loaded_app, "Evaluate")
    assert [m.value for m in loaded_app.metric][:3] == PPL
    assert not runs_root().exists() or list(runs_root().iterdir()) == []
    go(loaded_app, "pressure")
    clicked(loaded_app, "Diagnose")  # its own, in place of the one from elsewhere
    assert FOREIGN not in texts(loaded_app)
    (entry,) = RunStore().entries()
    assert [p.name for p in entry.path.glob("*.json")].count("diagnosis.json") == 1
    assert not (entry.path / "evaluation.json").exists()


@pytest.mark.parametrize(("left_out", "mark"), [(("checksum", "covers"), OLDER), (("covers",), TODAY)])
def test_an_older_run_answers_only_once_opened_and_says_what_it_does_not_know(loaded_app, written, left_out, mark):
    path = written(runs_root() / "older")
    said = json.loads((path / "manifest.json").read_text())
    for name in left_out:
        del said[name]
    (path / "manifest.json").write_text(json.dumps(said))
    go(loaded_app, "evaluate")
    assert PPL[0] not in [m.value for m in loaded_app.metric]
    linked = visit(loaded_app, run="older")
    for app in (linked, loaded_app):
        if app is loaded_app:
            go(app, "runs")
            assert app.dataframe[0].value["kept"].tolist() == ["here, older"]
            clicked(app, "Open run")
        go(app, "evaluate")
        assert [m.value for m in app.metric][:3] == PPL
        assert f"From the run older {mark}" in texts(app)


def test_the_menu_opens_the_run_that_it_shows_whatever_was_written_or_deleted_meanwhile(loaded_app, written):
    written(runs_root() / "first", rope=RopeSpec("linear", 2.0))
    go(loaded_app, "runs")
    assert "linear ×2" in loaded_app.selectbox(key="run to open").options[0]
    written(runs_root() / "newer", rope=RopeSpec("ntk", 2.0))
    clicked(loaded_app, "Open run")
    assert loaded_app.session_state["choice"].run == "first"
    loaded_app.selectbox(key="run to open").select(str(runs_root() / "newer")).run()
    shutil.rmtree(runs_root() / "newer")
    button(loaded_app, "Open run").click().run()
    assert not loaded_app.exception
    assert loaded_app.session_state["choice"].run == "first"
    (line,) = [e.value for e in loaded_app.error]
    assert line.startswith("newer cannot be opened any more")


def test_a_compared_run_that_is_gone_is_said_to_be_gone_and_the_others_stay(loaded_app, written):
    for name, method in (("one", "linear"), ("two", "ntk"), ("three", "yarn")):
        written(runs_root() / name, rope=RopeSpec(method, 2.0))
    go(loaded_app, "runs")
    menu = loaded_app.multiselect(key="compare")
    for name in ("one", "two", "three"):
        menu = menu.select(str(runs_root() / name))
    menu.run()
    shutil.rmtree(runs_root() / "two")
    loaded_app.run()
    assert "No longer there: two." in [e.value for e in loaded_app.info]
    assert sorted(loaded_app.dataframe[1].value["run"]) == ["one", "three"]


def test_a_search_whose_diagnosis_was_cancelled_fails_and_is_not_kept(loaded_app, stages, demo_model):
    held = Held(planted.diagnosis())
    stages.patch(stages.diagnose, "run", held)
    go(loaded_app, "tune")
    button(loaded_app, "Start the search").click().run()
    wait_for_step(loaded_app)
    first, second = manager().active()
    assert (first.label, second.label, second.ahead) == ("Diagnose demo", "Tune demo", 1)
    manager().cancel(first.key)
    settled(loaded_app)
    (line,) = [e.value for e in loaded_app.error]
    assert line == "Tune demo: not started, it needs “Diagnose demo”, which was cancelled; start it again"
    assert manager().result(jobs.search.key(demo_model, default_setting(demo_model))) is None
    assert not runs_root().exists() or list(runs_root().iterdir()) == []


def test_applied_scales_belong_to_their_setting_and_are_undone_there(loaded_app, demo_model):
    theirs = replace(default_setting(demo_model), rope=RopeSpec("linear", 2.0))
    scales = identity(4, 2, ((0, 31),))
    scales.g[:] = 2.0
    apply_scales(demo_model, scales, ScalesOrigin(theirs, "tuned scales"))
    go(loaded_app, "tune")
    assert "scales of another setup applied: linear ×2, K int4 per token" in texts(loaded_app)
    assert "**tuned scales of another setup applied** (linear ×2 · K int4 per token" in texts(loaded_app)
    assert button(loaded_app, "Undo").disabled
    clicked(loaded_app, "Go to their setup")
    assert "linear ×2" in texts(loaded_app)
    assert "scales applied" in texts(loaded_app)
    assert demo_model.applied is scales
    clicked(loaded_app, "Undo")
    assert demo_model.applied is None
    assert "weights as loaded" in texts(loaded_app)
    same = default_setting(demo_model)
    apply_scales(demo_model, scales, ScalesOrigin(replace(same, search=replace(same.search, seed=5)), "tuned scales"))
    loaded_app.run()
    go(loaded_app, "start")
    session_choice = replace(loaded_app.session_state["choice"], rope=None, search=None, length=None, evaluation=None)
    loaded_app.session_state["choice"] = replace(session_choice, diagnosis=None)
    go(loaded_app, "tune")
    assert "scales of another setup applied: the same but for its text or its search" in texts(loaded_app)


def test_a_model_that_another_person_has_replaced_is_no_link_that_needs_it(loaded_app):
    other = visit(loaded_app, model="demo", dtype="float64")
    assert "This link needs the model demo. Load it?" in texts(other).replace("**", "")
    clicked(other, "Load demo")
    manager().release("load", but=session.load_key(other.session_state["choice"]))  # as a load does
    for page in ("start", "tune"):
        said = texts(go(loaded_app, page)).replace("**", "")
        assert "demo is no longer in memory: another model was loaded here since. Load it again?" in said, page
        assert "This link" not in said


def test_scales_that_another_person_has_applied_since_are_not_undone_by_a_page_that_shows_others(
    loaded_app, demo_model
):
    mine, theirs = default_setting(demo_model), replace(default_setting(demo_model), rope=RopeSpec("linear", 2.0))
    first, second = identity(4, 2, ((0, 31),)), identity(4, 2, ((0, 31),))
    first.g[:], second.g[:] = 2.0, 4.0
    apply_scales(demo_model, first, ScalesOrigin(mine, "tuned scales"))
    go(loaded_app, "tune")
    assert "**tuned scales applied**" in texts(loaded_app)  # though none are offered on this page
    apply_scales(demo_model, second, ScalesOrigin(theirs, "tuned scales"))
    clicked(loaded_app, "Undo")
    assert demo_model.applied is second
    words = "nothing was undone in demo's weights: scales were applied anew since this page was drawn"
    assert words in texts(loaded_app)
    assert "**tuned scales of another setup applied** (linear ×2" in texts(loaded_app)


def test_two_runs_of_one_name_are_told_apart_and_the_one_that_is_picked_opens(loaded_app, written, tmp_path):
    places = [written(tmp_path / place / "run", rope=RopeSpec("linear", 2.0)) for place in ("one", "two", "three")]
    for path in places:
        open_folder(loaded_app, path)
    for key in ("run to open", "compare"):
        box = (loaded_app.selectbox if key == "run to open" else loaded_app.multiselect)(key=key)
        assert [option.partition(":")[0] for option in box.options] == [str(path) for path in reversed(places)]
    loaded_app.selectbox(key="run to open").select(str(places[1])).run()
    clicked(loaded_app, "Open run")
    assert f"From the run folder {places[1]}, {FOREIGN}" in texts(loaded_app)


def test_a_folder_from_elsewhere_that_is_gone_or_made_anew_is_not_answered_from_memory(loaded_app, written, tmp_path):
    path = written(tmp_path / "theirs")
    open_folder(loaded_app, path)
    go(loaded_app, "evaluate")
    assert [m.value for m in loaded_app.metric][:3] == PPL
    file = path / "evaluation.json"
    file.write_text(planted.shifted(Evaluation.from_file(file), 0.5).to_json())
    loaded_app.run()
    assert [m.value for m in loaded_app.metric][:3] == [f"{math.exp(x + 0.5):.3f}" for x in (2.1, 2.6, 2.35)]
    shutil.rmtree(path)
    loaded_app.run()
    assert len(loaded_app.metric) == 0
    words = f"The result shown here was read from {path}, opened by you, and cannot be read there any more."
    assert words in texts(loaded_app)
    assert "of an older version" not in texts(loaded_app)


def test_where_the_dashboard_has_its_own_results_they_stand_before_those_of_an_opened_folder(
    loaded_app, written, tmp_path
):
    own, path = written(runs_root() / "own"), written(tmp_path / "theirs")
    open_folder(loaded_app, path)
    assert f"measured the setup of {path} itself" in texts(loaded_app)
    assert FOREIGN not in texts(loaded_app)
    shutil.rmtree(own)
    loaded_app.run()
    assert f"measured the setup of {path} itself" not in texts(loaded_app)
    assert f"From the run folder {path}, {FOREIGN}" in texts(loaded_app)


def test_a_run_whose_models_files_have_become_another_model_says_so(loaded_app, written, demo_model):
    path = written(runs_root() / "first")
    manifest = path / "manifest.json"
    linked = visit(loaded_app, run="first")
    assert "run first" in texts(go(linked, "tune"))
    assert "another model" not in texts(linked)
    manifest.write_text(manifest.read_text().replace(demo_model.checksum, "f" * 16))
    linked = visit(loaded_app, run="first")
    assert "run first, of another model" in texts(go(linked, "tune"))
    words = "first was measured on another model than the one that is loaded from demo now"
    assert words in texts(go(linked, "runs"))
    shutil.rmtree(path)
    assert "run first, no longer there" in texts(go(linked, "tune"))


def test_files_that_have_changed_since_they_were_loaded_are_said_and_can_be_loaded_again(
    loaded_app, stages, demo_model
):
    loads, known = [], demo_model.stamp
    stages.patch(stages.load, "run", lambda source, **kw: loads.append(source) or demo_model)
    words = "The files of demo have changed since it was loaded"
    assert words not in texts(go(loaded_app, "tune"))
    stages.patch(demo_model, "stamp", known[1:])
    for page in ("tune", "runs", "start"):
        assert words in texts(go(loaded_app, page)), page
    button(loaded_app, "Load it again").click().run()
    demo_model.stamp = known  # what a load reads
    settled(loaded_app)
    assert loads == ["demo"]
    assert words not in texts(loaded_app)


def test_an_evaluation_from_elsewhere_of_scales_found_here_is_marked_on_export(loaded_app, written, tmp_path):
    own, path = written(runs_root() / "own"), written(tmp_path / "theirs")
    unevaluated(own)
    open_folder(loaded_app, path)
    go(loaded_app, "export")
    assert f"From the run folder {path}, {FOREIGN}" in texts(loaded_app)
    shutil.copy(path / "evaluation.json", own)
    loaded_app.run()
    assert "In the evaluation: significant gain" in texts(loaded_app)
    assert FOREIGN not in texts(loaded_app)


def test_noise_with_scales_from_elsewhere_says_whose_scales_they_are(loaded_app, written, tmp_path):
    own, path = written(runs_root() / "own"), written(tmp_path / "theirs")
    open_folder(loaded_app, path)
    whose = f"The tuned scales are those of the run folder {path}, opened by you."
    go(loaded_app, "noise")
    clicked(loaded_app, "Overlay the tuned scales")
    assert whose not in texts(loaded_app)
    shutil.rmtree(own)
    manager().release("search")  # what a restart forgets
    loaded_app.run()
    assert whose in texts(loaded_app)


def test_applied_scales_say_to_everybody_whose_they_are(loaded_app, written, tmp_path, stages, demo_model):
    """Who opened nothing meets a run folder's scales in the weights as such: in the status bar, on Tune, on Noise."""
    path = written(tmp_path / "theirs")
    open_folder(loaded_app, path)
    clicked(go(loaded_app, "tune"), "Apply")
    other = visit(loaded_app, model="demo")
    for app in (loaded_app, other):
        said = texts(go(app, "tune"))
        assert ":orange-badge[scales applied: of the run folder theirs from elsewhere]" in said
        assert f"**tuned scales applied** to `demo`: of the run folder {path}, not measured by this dashboard." in said
    stages.patch(stages.diagnose, "run", lambda *a, **kw: planted.diagnosis())
    clicked(go(other, "noise"), "Diagnose")
    clicked(other, "Overlay the tuned scales")
    words = (
        f"those applied to the loaded weights: tuned scales, of the run folder {path}, not measured by this dashboard"
    )
    assert words in texts(other)
    elsewhere = visit(loaded_app, model="demo", rope='{"method":"linear","factor":2}')
    assert "; of the run folder theirs from elsewhere]" in texts(go(elsewhere, "tune"))
    clicked(go(loaded_app, "tune"), "Undo")
    written(runs_root() / "own")
    clicked(go(other, "tune"), "Apply")
    for app in (loaded_app, other):
        said = texts(go(app, "tune"))
        assert ":green-badge[scales applied: found by a search here]" in said
        assert "**tuned scales applied** to `demo`: found by a search here." in said
    assert demo_model.applied_under.folder == ""


def test_scales_set_by_hand_are_no_finding_and_say_so(loaded_app, demo_model):
    scales = identity(4, 2, ((0, 31),))
    scales.g[:] = 2.0
    apply_scales(demo_model, scales, ScalesOrigin(default_setting(demo_model), "by hand"))
    assert ":orange-badge[scales applied: set by hand]" in texts(go(loaded_app, "tune"))


ELSEWHERE = "by another visitor, or before a reload"


def test_two_jobs_of_one_label_say_their_setting_and_whose_they_are(loaded_app, stages):
    held = Held(planted.diagnosis())
    stages.patch(stages.diagnose, "run", held)
    other = visit(loaded_app, model="demo", rope='{"method":"linear","factor":2}', length="512")
    for app in (loaded_app, other):
        button(go(app, "pressure"), "Diagnose").click().run()
    wait_for_step(loaded_app)
    for app in (loaded_app, other):
        app.switch_page("app.py").run()  # which draws the queue
    mine, theirs = (
        "YaRN ×4, K int4 per token, 1024 tokens, 8 bands by count",
        "linear ×2, K int4 per token, 512 tokens, 8 bands by count",
    )
    for app, whose in ((loaded_app, ("by you", ELSEWHERE)), (other, (ELSEWHERE, "by you"))):
        said = [read(e.value) for e in app.sidebar.caption]
        assert [f"{mine}; started {whose[0]}", f"{theirs}; started {whose[1]}"] == [x for x in said if "started" in x]
        cancels = [b.help for b in app.sidebar.button if b.label == "Cancel"]
        assert [mine in read(cancels[0]), theirs in read(cancels[1])] == [True, True]
    held.open.set()
    settled(loaded_app)


def test_two_jobs_that_differ_in_bands_or_in_an_option_of_the_stage_read_apart(loaded_app, stages):
    held = Held(planted.diagnosis())
    stages.patch(stages.diagnose, "run", held)
    bands = visit(loaded_app, model="demo", bands='{"count":4}')
    windows = visit(loaded_app, model="demo", diagnosis='{"windows":5}')
    for app in (loaded_app, bands, windows):
        button(go(app, "pressure"), "Diagnose").click().run()
    wait_for_step(loaded_app)
    loaded_app.switch_page("app.py").run()
    said = [read(e.value).partition(";")[0] for e in loaded_app.sidebar.caption if "started" in e.value]
    head = "YaRN ×4, K int4 per token, 1024 tokens"
    assert said == [f"{head}, 8 bands by count", f"{head}, 4 bands by count", f"{head}, 8 bands by count, windows 5"]
    held.open.set()
    settled(loaded_app)


def test_scales_that_went_with_another_persons_load_are_said_to_be_gone(loaded_app, demo_model):
    scales = identity(4, 2, ((0, 31),))
    scales.g[:] = 2.0
    apply_scales(demo_model, scales, ScalesOrigin(default_setting(demo_model), "tuned scales"))
    words = "demo was loaded anew since tuned scales had been applied: its weights are the checkpoint's own again."
    assert words not in texts(go(loaded_app, "tune"))
    undo_scales(demo_model)
    assert words not in texts(go(loaded_app, "evaluate"))
    apply_scales(demo_model, scales, ScalesOrigin(default_setting(demo_model), "tuned scales"))
    go(loaded_app, "tune")
    manager().release("load")  # as another model's load does
    undo_scales(demo_model)
    go(loaded_app, "start")
    clicked(loaded_app, "Load demo")
    assert words in texts(go(loaded_app, "evaluate"))
    assert words not in texts(go(visit(loaded_app, model="demo"), "evaluate"))
