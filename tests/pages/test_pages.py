"""Every page without a browser: empty, loaded, failed, busy. Stages are fakes; the demo model is real."""

import math
import threading
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from qroar_core.errors import BadText
from tests.pages.visitor import Held, button, clicked, go, settled, texts, titles, wait_for_step

pytestmark = pytest.mark.slow

PAGES = ("bands", "pressure", "tails", "outliers", "noise", "tune", "evaluate", "export")  # need a setting alone
TESTS = ("remedies", "retrieval", "evidence")  # what a click costs stands there beside it
JOBS = {  # page, button, the stage behind it
    "diagnose": ("pressure", "Diagnose", "qroar_core.diagnostics.run.run"),
    "search": ("tune", "Start the search", "qroar_core.scale_search.run.run"),
    "evaluate": ("evaluate", "Evaluate", "qroar_core.evaluation.run.run"),
    "compare": ("remedies", "Run the comparison", "qroar_core.remedies.run.run"),
    "retrieve": ("retrieval", "Test retrieval", "qroar_core.retrieval.run.run"),
    "replicate": ("evidence", "Test the claims", "qroar_core.evidence.replication.run.run"),
    "predict": ("evidence", "Round each band alone", "qroar_core.evidence.prediction.run.run"),
    "tune_rope": ("evidence", "Choose the interpolation", "qroar_core.rope_search.run.run"),
}


def test_start_page_is_ready_for_one_click(app):
    assert app.title[0].value.startswith("Where does your long-context model lose")
    assert button(app, "Demo model").proto.type == "primary"
    assert not app.exception
    assert not app.dataframe


def test_demo_model_shows_what_it_is_and_the_verdict(loaded_app):
    facts = dict(loaded_app.dataframe[0].value.values.tolist())
    assert facts["family"] == "llama"
    shown = {m.label: m.value for m in loaded_app.metric}
    assert (shown["Heads / KV heads"], shown["Native window"]) == ("4 / 2", "256")
    assert "**Rescaling can act here:**" in loaded_app.success[0].value
    assert loaded_app.selectbox(key="rope").value == "yarn"
    assert loaded_app.number_input(key="factor").value == 4.0
    assert loaded_app.query_params["model"] == "demo"


@pytest.mark.parametrize("page", [*PAGES, *TESTS])
def test_without_a_model_each_page_says_what_to_do_next(app, page):
    go(app, page)
    assert "No model is loaded yet" in app.info[0].value
    assert not app.button


@pytest.mark.parametrize("page", PAGES)
def test_with_a_model_each_page_shows_the_setting_and_an_empty_state(loaded_app, page):
    go(loaded_app, page)
    said = texts(loaded_app)
    for words in ("demo", "YaRN ×4", "K int4 per token", "1024 tokens", "8 bands by count", "Rescaling can act here"):
        assert words in said
    assert loaded_app.info
    assert len(loaded_app.get("plotly_chart")) == (2 if page == "pressure" else 0)  # closed forms need no diagnosis


@pytest.fixture(params=JOBS)
def job(request, loaded_app):
    """A visitor on the page of one stage, its button, and where the stage stands."""
    page, label, stage = JOBS[request.param]
    return go(loaded_app, page), label, stage


def test_a_failure_is_one_line_and_the_page_stays_usable(job, stages):
    def fail(*args, on_step=None, **kwargs):
        raise BadText("the text is empty", where="mine.txt", do="give a text with words in it")

    app, label, stage = job
    stages.patch(stage, fail)
    clicked(app, label)
    assert app.error[0].value == "mine.txt: the text is empty; give a text with words in it"
    assert not button(app, label).disabled


def test_a_fault_of_ours_shows_no_traceback(job, stages):
    def fault(*args, on_step=None, **kwargs):
        raise ZeroDivisionError("secret")

    app, label, stage = job
    stages.patch(stage, fault)
    clicked(app, label)
    assert "an internal error (ZeroDivisionError)" in app.error[0].value
    assert "secret" not in texts(app)


def test_a_running_job_shows_progress_and_cancel_ends_it(job, stages):
    app, label, stage = job
    stages.patch(stage, Held())
    button(app, label).click().run()
    wait_for_step(app)
    assert "reading window 1" in app.get("progress")[0].proto.text
    assert app.get("progress")[0].proto.value == 25
    assert button(app, label).disabled
    clicked(app, "Cancel")
    assert "cancelled. Nothing half-done was kept" in texts(app)
    assert not button(app, label).disabled
    assert threading.active_count() < 50


def test_another_visitor_sees_whose_turn_it_is_and_waits(loaded_app, stages):
    from tests.helpers import planted

    held = Held(planted.evaluation())
    stages.patch(stages.evaluate, "run", held)
    go(loaded_app, "evaluate")
    button(loaded_app, "Evaluate").click().run()
    other = AppTest.from_file(loaded_app._script_path, default_timeout=30)
    other.query_params["model"] = "demo"
    other.query_params["rope"] = '{"method":"linear","factor":2.0}'
    other.run()  # app.py: switch_page runs a page's file alone
    assert other.sidebar.markdown[0].value == "**1 job**"
    assert other.sidebar.get("progress")[0].proto.text.startswith("Evaluate demo")
    go(other, "pressure")
    assert "linear ×2" in texts(other)
    button(other, "Diagnose").click().run()
    assert "Diagnose demo: waiting for “Evaluate demo” to finish" in [p.proto.text for p in other.get("progress")]
    held.open.set()
    settled(other)
    settled(loaded_app)
    assert "YaRN ×4" in texts(loaded_app)  # nothing of one visitor leaks to the other
    assert loaded_app.metric


def test_a_reload_finds_the_running_job_and_its_result(loaded_app, stages):
    from tests.helpers import planted

    held = Held(planted.evaluation())
    stages.patch(stages.evaluate, "run", held)
    go(loaded_app, "evaluate")
    button(loaded_app, "Evaluate").click().run()
    again = AppTest.from_file(loaded_app._script_path, default_timeout=30)
    again.query_params.update(loaded_app.query_params)
    again.run()
    go(again, "evaluate")
    assert again.get("progress")
    held.open.set()
    settled(again)
    assert again.metric[0].value == f"{math.exp(2.1):.3f}"


def test_tune_shows_the_best_so_far_while_it_runs(loaded_app, stages):
    from tests.helpers import planted

    stages.patch(stages.search, "run", Held(detail=planted.report().history[2]))
    go(loaded_app, "tune")
    button(loaded_app, "Start the search").click().run()
    wait_for_step(loaded_app)
    assert loaded_app.metric[0].value == "0.6"
    clicked(loaded_app, "Cancel")


def test_tune_shows_scales_and_verdict_then_applies_and_undoes(loaded_app, demo_model):
    before = demo_model.model.model.layers[0].self_attn.q_proj.weight.clone()
    go(loaded_app, "tune")
    clicked(loaded_app, "Start the search")
    assert loaded_app.success[0].value.startswith("**Significant gain: +0.0166 nats")
    assert ".** The scales are kept." in loaded_app.success[0].value
    assert titles(loaded_app) == [
        "How far is each band scaled?",
        "The best scales lower the objective by 80.0%",
    ]
    table = next(d.value for d in loaded_app.dataframe if "g" in d.value)
    assert len(table) == 4 * 2 * 8
    assert set(table["g"]) == {2.0}
    clicked(loaded_app, "Apply")
    assert "scales applied" in texts(loaded_app)
    assert button(loaded_app, "Apply").disabled
    after = demo_model.model.model.layers[0].self_attn.q_proj.weight
    assert (after == 2 * before).all()
    clicked(loaded_app, "Undo")
    assert "weights as loaded" in texts(loaded_app)
    assert (demo_model.model.model.layers[0].self_attn.q_proj.weight == before).all()


def test_tune_says_keep_identity_when_the_gain_is_not_significant(loaded_app, stages):
    from tests.helpers import planted

    real = stages.search.run

    def insignificant(*args, **kwargs):
        return replace(real(*args, **kwargs), report=planted.report("identity"))

    stages.patch(stages.search, "run", insignificant)
    go(loaded_app, "tune")
    clicked(loaded_app, "Start the search")
    assert "No significant gain: keep identity" in loaded_app.warning[0].value


def test_evaluate_shows_the_numbers_and_the_sentence(loaded_app):
    go(loaded_app, "evaluate")
    clicked(loaded_app, "Evaluate")
    assert [m.value for m in loaded_app.metric] == [*(f"{math.exp(x):.3f}" for x in (2.1, 2.6, 2.35)), "50%"]
    assert loaded_app.success[0].value.startswith("**Significant gain: +0.2500 nats ")
    assert len(loaded_app.get("plotly_chart")) == 5


def test_export_offers_scales_and_writes_a_folder_inside_the_roots(loaded_app, tmp_path, monkeypatch):
    monkeypatch.setenv("QROAR_ROOTS", str(tmp_path))
    go(loaded_app, "tune")
    clicked(loaded_app, "Start the search")
    go(loaded_app, "export")
    assert loaded_app.selectbox(key="export scales").value == "tuned scales"
    assert [d.label for d in loaded_app.get("download_button")] == ["Download scales.json"]
    loaded_app.text_input(key="folder").set_value("/etc/elsewhere")
    button(loaded_app, "Write the checkpoint").click().run()
    assert "outside the folders this dashboard may touch" in loaded_app.error[0].value
    loaded_app.text_input(key="folder").set_value(str(tmp_path / "out"))
    clicked(loaded_app, "Write the checkpoint")
    assert (tmp_path / "out" / "config.json").is_file()
    assert any("from_pretrained" in code.value for code in loaded_app.code)
    assert loaded_app.code[0].value.endswith("--rope yarn --factor 4 --k int4 --scales scales.json")


def test_a_setting_in_the_address_is_taken_up_and_a_bad_one_is_ignored(app):
    other = AppTest.from_file(app._script_path, default_timeout=30)
    other.query_params.update(
        {
            "model": "demo",
            "quant": '{"k":{"bits":8}}',
            "rope": '{"method":"yarn","factor":0.1}',
            "length": "-7",
            "x": "y",
        }
    )
    other.run()
    clicked(other, "Demo model")
    assert other.selectbox(key="rope").value == "yarn"
    assert other.number_input(key="factor").value == 4.0  # the demo's own default
    assert other.selectbox(key="quantizer").value == "every option by hand …"
    assert other.selectbox(key="k").value == "int8"
    assert set(other.query_params) == {"model", "quant"}


def test_a_quantizer_that_scales_cannot_touch_is_said_before_any_search(loaded_app):
    loaded_app.selectbox(key="quantizer").select("w4a16").run()
    assert "Rescaling cannot act here:" in loaded_app.warning[0].value
    go(loaded_app, "tune")
    assert "exact no-op" in loaded_app.warning[0].value


def test_quantizer_by_hand_and_rope_change_the_strip(loaded_app):
    loaded_app.selectbox(key="quantizer").select("every option by hand …").run()
    loaded_app.selectbox(key="k").select("int3").run()
    loaded_app.selectbox(key="k rotation").select("hadamard").run()
    loaded_app.selectbox(key="rope").select("linear").run()
    assert not loaded_app.exception
    go(loaded_app, "noise")
    assert "K int3 per token, Hadamard" in texts(loaded_app)
    assert "linear ×4" in texts(loaded_app)


def test_values_that_cannot_be_are_refused_in_one_line_and_the_old_setting_stays(loaded_app):
    loaded_app.selectbox(key="quantizer").select("every option by hand …").run()
    loaded_app.selectbox(key="k scale").select("channel").run()
    loaded_app.selectbox(key="k rotation").select("hadamard").run()
    assert "exclude each other" in loaded_app.error[0].value
    assert not loaded_app.exception


def test_no_control_is_without_a_label(loaded_app):
    for page in ("start", *PAGES):
        go(loaded_app, page)
        for kind in ("button", "selectbox", "number_input", "text_input", "checkbox", "multiselect"):
            assert all(w.label for w in loaded_app.get(kind))
