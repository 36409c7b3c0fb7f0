"""Results that survive, runs that reopen, and two visitors who do not disturb each other."""

import json
import math
import shutil
import threading
import time
from dataclasses import replace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.state.choice import Choice, from_address, restored, setting_of, to_address
from pages.state.session import library, load_key, manager
from qroar_core.evaluation.result import Evaluation
from qroar_core.progress import Step
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.record import read_record
from qroar_core.runs.store import runs_root
from qroar_core.setting import default_setting
from qroar_core.specs import ComparisonSpec, EvaluationSpec, QuantizerSpec, QuantSpec, RopeSpec
from tests.helpers import planted
from tests.pages.visitor import button, clicked, go, read, settled, texts, unevaluated

pytestmark = pytest.mark.slow

PPL = [f"{math.exp(x):.3f}" for x in (2.1, 2.6, 2.35)]


def visit(app, **parameters):
    """Another browser on the same server, with this address."""
    other = AppTest.from_file(app._script_path, default_timeout=30)
    other.query_params.update(parameters)
    return other.run()


def finish(app):
    """Tune and evaluate what is chosen."""
    go(app, "tune")
    clicked(app, "Start the search")
    go(app, "evaluate")
    return clicked(app, "Evaluate")


def restart():
    """What a new server process knows: nothing but the disk."""
    st.cache_resource.clear()


def shown_runs(app):
    """The table of runs by folder name."""
    return app.dataframe[0].value.set_index("run").to_dict("index")


@pytest.fixture
def by_command(stages, demo_model):
    """A whole run as the command line writes it, with --k int4 and its own text label."""
    from qroar_core.runs.pipeline import run
    from tests.helpers import planted

    setting = default_setting(demo_model, RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4)))
    setting = replace(setting, evaluation=EvaluationSpec(lengths=(64, 512), windows=9), text="notes.txt (sha256 0011)")

    def make(path, setting=setting):
        stages.patch(stages.diagnose, "run", lambda *a, **kw: planted.diagnosis())
        folder = RunFolder.open(path, demo_model, setting, "python -m qroar_core run demo --text notes.txt")
        run(demo_model, setting, {"calibration": [], "heldout": []}, folder, lambda step: None)
        return folder.path

    return make


@pytest.fixture
def plain_report(stages):
    """A report is tested elsewhere; the planted bands are not the demo's."""
    stages.patch("qroar_core.runs.pipeline.report_html", lambda *a, **k: "<html></html>")


def test_results_come_back_after_a_restart_without_running_anything(loaded_app, stages):
    finish(loaded_app)
    assert [m.value for m in loaded_app.metric][:3] == PPL
    address = dict(loaded_app.query_params)
    restart()

    def never(*args, **kwargs):
        raise AssertionError("a stage ran")

    for stage in (stages.diagnose, stages.search, stages.evaluate):
        stages.patch(stage, "run", never)
    again = visit(
        loaded_app, **{name: value[0] if isinstance(value, list) else value for name, value in address.items()}
    )
    go(again, "evaluate")
    assert "This link needs the model" in again.info[0].value
    clicked(again, "Load demo")
    assert [m.value for m in again.metric][:3] == PPL
    go(again, "tune")
    assert "Significant gain: +0.0166 nats" in texts(again)
    go(again, "pressure")
    assert again.get("plotly_chart")
    assert not again.error


def test_the_runs_page_says_what_to_do_while_there_is_none(app):
    go(app, "runs")
    assert "No run is on disk yet" in texts(app)
    assert not app.dataframe


def test_a_finished_run_is_in_the_table_and_in_view(loaded_app):
    finish(loaded_app)
    go(loaded_app, "runs")
    ((name, line),) = shown_runs(loaded_app).items()
    assert name.startswith("demo-")
    assert (line["gain, nats"], line["from"], line["to"], line["significant"]) == (0.25, 0.2, 0.3, "yes")
    assert (line["gap recovered"], line["kept scales"], line["model"]) == ("50% [40%, 60%]", "tuned", "demo")
    assert line[""] == "in view"
    assert line["setup"].startswith("YaRN ×4 · K int4 per token · 1024 tokens · 8 bands")
    assert f"**{name}** is in view. Significant gain: +0.2500 nats" in loaded_app.success[0].value


def test_a_gain_that_is_significant_over_windows_alone_is_not_green_here_either(loaded_app, stages):
    result = planted.over_documents()
    stages.patch(stages.evaluate, "run", lambda *a, **kw: result)
    finish(loaded_app)
    go(loaded_app, "runs")
    (line,) = shown_runs(loaded_app).values()
    assert line["significant"] == "over windows, not over documents"
    assert not loaded_app.success
    (said,) = [box.value for box in loaded_app.info if "is in view" in box.value]
    assert "But counted over 3 documents instead of 16 windows, the gain is not significant" in said


def test_a_run_of_the_command_line_opens_with_its_setting_and_its_numbers(loaded_app, by_command, plain_report, stages):
    path = by_command(runs_root() / "by-command")
    go(loaded_app, "runs")
    assert shown_runs(loaded_app)["by-command"][""] == ""
    clicked(loaded_app, "Open run")
    assert shown_runs(loaded_app)["by-command"][""] == "in view"
    assert loaded_app.session_state["choice"].run == "by-command"
    go(loaded_app, "evaluate")
    assert [m.value for m in loaded_app.metric][:3] == PPL
    said = texts(loaded_app)
    for words in ("YaRN ×2", "K int4 per token", "512 tokens", "text: notes.txt (sha256 0011)", "run by-command"):
        assert words in said
    entry = read_record(path)
    assert entry.evaluation().rows[0].nll == 2.0
    assert setting_of(restored(entry), manager().result(load_key(Choice(model="demo")))) == entry.setting


def test_an_address_with_a_run_is_enough(loaded_app, by_command, plain_report):
    by_command(runs_root() / "by-command")
    other = visit(loaded_app, run="by-command")
    go(other, "evaluate")
    assert [m.value for m in other.metric][:3] == PPL  # the model of the first visitor is the one it needs
    assert "YaRN ×2" in texts(other)
    go(loaded_app, "noise")
    assert "YaRN ×4" in texts(loaded_app)  # nothing leaks to the first visitor


def test_a_changed_setting_is_that_run_no_more(loaded_app, by_command, plain_report):
    by_command(runs_root() / "by-command")
    other = visit(loaded_app, run="by-command")
    go(other, "start")
    other.number_input(key="factor").set_value(3.0).run()
    assert "run" not in other.query_params
    go(other, "evaluate")
    assert "YaRN ×3" in texts(other)
    assert PPL[0] not in [m.value for m in other.metric]


@pytest.mark.parametrize(("asked", "named"), [("whole", "whole"), ("part", "part"), (None, "whole")])
def test_of_two_runs_of_one_setting_the_opened_one_is_in_view_or_else_the_evaluated_one(
    loaded_app, by_command, plain_report, demo_model, asked, named
):
    by_command(runs_root() / "whole", default_setting(demo_model, RopeSpec("yarn", 2.0)))
    shutil.copytree(runs_root() / "whole", runs_root() / "part")
    unevaluated(runs_root() / "part", date="2999-01-01T00:00:00+00:00")
    assert [entry.name for entry in library().entries()] == ["part", "whole"]
    address = to_address(replace(restored(library().entry("whole")), run=asked or "", model="demo"))
    other = go(visit(loaded_app, **address), "runs")
    (said,) = [box.value for box in (*other.success, *other.info) if "is in view" in box.value]
    assert said.startswith(f"**{named}** is in view. ")
    assert "Significant gain" in said  # part has none of its own: the pages show that of the same scales in whole
    assert ("In whole: " in said) == (named == "part")


def test_an_address_that_names_one_of_two_runs_of_one_setting_shows_its_numbers(
    loaded_app, by_command, plain_report, demo_model
):
    """Also where the other's are in memory already, and where the named one has none of a stage."""
    by_command(runs_root() / "one", default_setting(demo_model, RopeSpec("yarn", 2.0)))
    shutil.copytree(runs_root() / "one", runs_root() / "two")
    file = runs_root() / "two" / "evaluation.json"
    file.write_text(planted.shifted(Evaluation.from_file(file), 0.2).to_json())
    ppl = {"one": PPL[0], "two": f"{math.exp(2.3):.3f}"}
    for run in ("one", "two", "one"):
        other = go(visit(loaded_app, run=run), "evaluate")
        assert other.metric[0].value == ppl[run], run
        assert "Not from the run" not in texts(other)
    go(other, "runs")
    assert "2 runs have this setup. The address names one, so the pages show its numbers." in texts(other)
    clicked(other, "Show two")
    assert "The address names two" in texts(other)
    assert other.query_params["run"] in ("two", ["two"])
    assert go(other, "evaluate").metric[0].value == ppl["two"]
    unevaluated(runs_root() / "two")
    other.run()
    assert other.metric[0].value == ppl["one"]
    assert "Not from the run two, which has none" in texts(other)


@pytest.mark.parametrize("name", ["../by-command", "/etc", "nothing-here", "x" * 500, "by-command/../by-command"])
def test_a_hostile_run_in_the_address_changes_nothing(app, by_command, plain_report, name):
    by_command(runs_root() / "by-command")
    other = visit(app, run=name, model="demo", length="512")
    assert not other.exception
    assert "run" not in other.query_params
    assert (other.query_params["model"], other.query_params["length"]) == ("demo", "512")
    if name == "nothing-here":
        assert "cannot be opened. nothing-here: no such run here" in other.warning[0].value


def test_a_folder_from_elsewhere_opens_inside_the_roots_only(
    loaded_app, by_command, plain_report, tmp_path, monkeypatch
):
    path = by_command(tmp_path / "mine" / "run")
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path / "mine"))
    go(loaded_app, "runs")
    for typed, line in (("/etc", "outside the folders"), (str(tmp_path / "mine"), "not a run"), ("", "type a folder")):
        loaded_app.text_input(key="run folder path").set_value(typed)
        button(loaded_app, "Open folder").click().run()
        assert line in loaded_app.error[0].value
    loaded_app.text_input(key="run folder path").set_value(str(path))
    clicked(loaded_app, "Open folder")
    assert "run" not in loaded_app.query_params  # an address names runs of the root only
    go(loaded_app, "evaluate")
    assert [m.value for m in loaded_app.metric][:3] == PPL


def test_broken_folders_are_listed_and_the_good_ones_stay(loaded_app, by_command, plain_report):
    by_command(runs_root() / "good")
    (runs_root() / "bad").mkdir()
    (runs_root() / "bad" / "manifest.json").write_text("{")
    go(loaded_app, "runs")
    assert list(shown_runs(loaded_app)) == ["good"]
    assert any("bad/manifest.json" in line.value for line in loaded_app.text)
    assert "Unreadable folders: 1" in [e.label for e in loaded_app.expander]


def test_two_runs_side_by_side(loaded_app, by_command, plain_report, demo_model):
    by_command(runs_root() / "one")
    shutil.copytree(runs_root() / "one", runs_root() / "two")
    other = planted.under(read_record(runs_root() / "two").setting, won=0.27)
    (runs_root() / "two" / "evaluation.json").write_text(other.to_json())
    go(loaded_app, "runs")
    assert not loaded_app.get("plotly_chart")
    menu = loaded_app.multiselect(key="compare")
    menu.select(str(runs_root() / "one")).select(str(runs_root() / "two")).run()
    titles = [heading.value for heading in loaded_app.subheader]
    assert titles == ["two gains most", "Do the runs scale the same bands?"]
    gains = loaded_app.dataframe[1].value.set_index("run")["gain_nats"].to_dict()
    assert gains == {"one": 0.25, "two": 0.27}


def test_scores_of_tasks_are_in_the_table_and_open_with_their_findings(loaded_app, demo_model):
    from qroar_core.runs.folder import TASK_SCORES, manifest_of
    from tests.helpers.planted_task_scores import task_scores

    asked = default_setting(demo_model, RopeSpec("yarn", 4.0), QuantSpec(k=QuantizerSpec(4)), 512)
    folder = runs_root() / "scores"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest_of(demo_model, asked, "lm-eval").to_json())
    (folder / TASK_SCORES).write_text(task_scores().to_json())
    go(loaded_app, "runs")
    assert shown_runs(loaded_app)["scores"]["evidence"] == "task scores"
    loaded_app.selectbox(key="run to open").select(str(folder)).run()
    app = settled(clicked(loaded_app, "Open run"))
    assert not app.exception
    said = texts(app)
    assert "In scores: YaRN ×4, K int4 per token, at most 512 tokens, seed 0." in said
    assert all(sentence in said for sentence in task_scores().sentences)
    assert "What does quantization cost on the tasks?" in said


def test_a_long_setting_has_a_higher_row_and_is_written_out_below_the_menu(
    loaded_app, by_command, demo_model, plain_report
):
    setting, rows = default_setting(demo_model, RopeSpec("yarn", 2.0), QuantSpec(k=QuantizerSpec(4))), []
    for text in ("brief", "notes of one's own whose name is long and is not cut: " + 12 * "chapter "):
        path = by_command(runs_root() / "one", replace(setting, text=text.strip()))
        go(loaded_app, "runs")
        rows.append(loaded_app.dataframe[0].proto.row_height)
        said = shown_runs(loaded_app)["one"]["setup"]
        assert said.endswith(text.strip())
        assert f"one: {said}" in [read(caption.value) for caption in loaded_app.caption]
        shutil.rmtree(path)
    brief, long = rows
    assert brief == 80
    assert long >= 19 * len(said) / 33 > brief


def test_a_run_of_another_model_says_what_it_needs(loaded_app, by_command, plain_report):
    path = by_command(runs_root() / "other")
    text = (path / "manifest.json").read_text()
    fingerprint = read_record(path).fingerprint
    text = text.replace(read_record(path).checksum, "f" * 16)
    changed = text.replace(fingerprint, "0123456789abcdef").replace('"source": "demo"', '"source": "org/other"')
    (path / "manifest.json").write_text(changed.replace('"name": "demo"', '"name": "other"'))
    for file in path.glob("scales*.json"):
        file.write_text(file.read_text().replace(fingerprint, "0123456789abcdef"))
    go(loaded_app, "runs")
    assert shown_runs(loaded_app)["other"]["model"] == "other"
    assert "(needs org/other)" in loaded_app.selectbox(key="run to open").options[0]
    button(loaded_app, "Open run").click().run()
    assert "This link needs the model org/other. Load it?" in read(loaded_app.info[0].value)
    assert button(loaded_app, "Load org/other")
    assert shown_runs(loaded_app)["other"]["gain, nats"] == 0.25


def test_a_full_disk_costs_a_warning_and_no_result(loaded_app, stages, monkeypatch):
    import errno

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qroar_core.transforms.file.os.fsync", full)
    go(loaded_app, "evaluate")
    clicked(loaded_app, "Evaluate")
    assert [m.value for m in loaded_app.metric][:3] == PPL
    assert any("in memory only" in w.value and "No space left on device" in w.value for w in loaded_app.warning)


def test_two_visitors_with_different_settings_get_their_own_results(loaded_app, stages):
    from tests.helpers import planted

    asked = []

    def tell(loaded, setting, *args, on_step=None, **kwargs):
        asked.append(setting.rope)
        return planted.shifted(planted.under(setting), math.log(setting.rope.factor) - 2.1)

    stages.patch(stages.evaluate, "run", tell)
    other = visit(loaded_app, model="demo", rope='{"method":"linear","factor":2.0}')
    for visitor in (loaded_app, other):
        go(visitor, "evaluate")
        button(visitor, "Evaluate").click().run()
    settled(loaded_app)
    settled(other)
    assert asked == [RopeSpec("yarn", 4.0), RopeSpec("linear", 2.0)]
    assert loaded_app.metric[0].value == "4.000"
    assert other.metric[0].value == "2.000"
    restart()
    back = visit(loaded_app, model="demo", rope='{"method":"linear","factor":2.0}')
    go(back, "evaluate")
    clicked(back, "Load demo")
    assert back.metric[0].value == "2.000"
    assert len(asked) == 2


def test_a_model_that_was_replaced_comes_back_with_one_click(loaded_app):
    finish(loaded_app)
    manager().release("load")  # what loading another model does
    go(loaded_app, "evaluate")
    words = "demo is no longer in memory: another model was loaded here since. Load it again?"
    assert words in read(loaded_app.info[0].value)
    clicked(loaded_app, "Load demo")
    assert [m.value for m in loaded_app.metric][:3] == PPL


def test_cancel_is_heard_while_weights_are_read(app, stages, monkeypatch):
    reading, end = threading.Event(), threading.Event()

    def slow(*args):
        reading.set()
        end.wait(30)

    monkeypatch.setattr(stages.load, "filled", slow)
    stages.patch(stages.load, "run", stages.real_load)
    button(app, "Demo model").click().run()
    assert reading.wait(10)
    key, asked = load_key(Choice(model="demo")), time.monotonic()
    manager().cancel(key)
    while manager().snapshot(key).active and time.monotonic() - asked < 5:
        time.sleep(0.01)
    assert time.monotonic() - asked < 2
    assert manager().snapshot(key).state == "cancelled"
    end.set()
    settled(app)
    assert "cancelled" in texts(app)


@pytest.mark.parametrize("what", ["MemoryError", "torch.OutOfMemoryError", "RuntimeError"])
def test_out_of_memory_names_a_length_that_fits(loaded_app, stages, what, monkeypatch):
    import torch

    fault = {
        "MemoryError": MemoryError(),
        "torch.OutOfMemoryError": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        "RuntimeError": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    }[what]

    def big(*args, on_step=None, **kwargs):
        on_step(Step("big", 1, 2))
        raise fault

    stages.patch(stages.diagnose, "run", big)
    go(loaded_app, "pressure")
    clicked(loaded_app, "Diagnose")
    assert "cpu: out of memory at 1024 tokens; choose a length of at most 512 tokens" in loaded_app.error[0].value
    monkeypatch.setattr("qroar_core.models.memory.free_bytes", lambda device: 10 * 2 * 6 * 2 * 64 * 4)
    clicked(loaded_app, "Diagnose")
    assert "choose a length of at most" in loaded_app.error[0].value
    assert "at most 512" not in loaded_app.error[0].value


def test_run_and_text_in_the_address_and_back():
    chosen = Choice(model="demo", text="technical", run="demo-0123456789")
    assert to_address(chosen) == {"model": "demo", "text": "technical", "run": "demo-0123456789"}
    assert from_address(to_address(chosen)) == chosen
    assert from_address({"text": "/etc/passwd", "run": "../x"}) == Choice()
    older = to_address(replace(chosen, comparison=ComparisonSpec(windows=4)))
    older["league"] = older.pop("comparison")  # as links of before 2026-11-29 have it
    assert from_address(older) == replace(chosen, comparison=ComparisonSpec(windows=4))


def test_texts_of_the_setting_reach_the_stages_and_the_key(loaded_app, stages):
    from tests.helpers import planted

    read = []

    def diagnose(loaded, setting, documents, on_step=None, **kwargs):
        read.append(documents[0].name)
        return planted.diagnosis()

    stages.patch(stages.diagnose, "run", diagnose)
    for text in ("messages", "technical"):
        visitor = visit(loaded_app, model="demo", text=text)
        go(visitor, "pressure")
        clicked(visitor, "Diagnose")
    assert [name.split("-")[0] for name in read] == ["1825", "python"]
    assert len(library().entries()) == 2


def test_a_run_that_contradicts_itself_is_named_with_its_reason_and_the_others_open(loaded_app):
    finish(loaded_app)
    (whole,) = runs_root().iterdir()
    broken = runs_root() / "broken"
    shutil.copytree(whole, broken)
    scales = json.loads((broken / "scales.json").read_text())
    (broken / "scales.json").write_text(json.dumps(scales | {"granularity": "model"}))
    go(loaded_app, "runs")
    assert list(shown_runs(loaded_app)) == [whole.name]
    assert "Unreadable folders: 1" in [e.label for e in loaded_app.expander]
    (line,) = [t.value for t in loaded_app.text]
    assert line.startswith(f"{broken / 'scales.json'}: g: no table of 8 numbers, one per band; ")
    other = visit(loaded_app, run="broken")
    assert "The run of this address cannot be opened." in other.warning[0].value
    assert "g: no table of 8 numbers" in other.warning[0].value
    assert not other.exception
    clicked(loaded_app, "Open run")
    assert loaded_app.session_state["choice"].run == whole.name
