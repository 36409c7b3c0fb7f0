"""Retrieval without a browser: empty, loaded, failed, busy, and what a result says."""

import json

import pytest

from tests.helpers import planted_retrieval
from tests.pages.visitor import clicked, go, texts, titles

pytestmark = pytest.mark.slow


@pytest.fixture
def asks(stages):
    """The stage answers with a planted result and notes what it was asked."""
    from qroar_core.retrieval import run as retrieve

    asked = []

    def fake(loaded, setting, scales, spec, documents, on_step=None):
        asked.append((spec, scales, [d.name for d in documents]))
        return planted_retrieval.retrieval()

    stages.patch(retrieve, "run", fake)
    return asked


def page(app):
    return go(app, "retrieval")


def test_with_a_model_it_shows_the_setting_and_what_a_click_costs(loaded_app):
    page(loaded_app)
    said = texts(loaded_app)
    for words in ("demo", "YaRN ×4", "K int4 per token", "Not run for this setup yet", "No scales are tuned"):
        assert words in said
    assert "100 prompts under 2 conditions, each of up to 1,024 tokens" in said
    assert loaded_app.multiselect(key="retrieval lengths").value == [256, 1024]
    assert loaded_app.checkbox(key="retrieval chat").disabled  # the demo has no chat template
    assert not loaded_app.get("plotly_chart")


def test_a_click_asks_on_held_out_text_and_shows_sentences_maps_and_answers(loaded_app, asks):
    page(loaded_app)
    loaded_app.multiselect(key="retrieval depths").set_value([0.0, 1.0]).run()
    loaded_app.number_input(key="retrieval trials").set_value(2).run()
    loaded_app.multiselect(key="retrieval tasks").set_value(["passkey"]).run()
    assert "8 prompts under 2 conditions" in texts(loaded_app)
    clicked(loaded_app, "Test retrieval")
    ((spec, scales, documents),) = asks
    assert (spec.tasks, spec.lengths, spec.depths, spec.trials) == (("passkey",), (256, 1024), (0.0, 1.0), 2)
    assert scales is None
    assert "1900-McKinley-1.txt" in documents
    assert loaded_app.success[0].value.startswith("**Passkey: by generation the reference finds 15 of 16")
    assert titles(loaded_app) == [
        "Passkey: generated answer, reference 15 of 16; quantized 7 of 16; quantized, tuned 11 of 16",
        "Passkey: what does quantization cost, and what do the scales recover?",
    ]
    assert len(loaded_app.get("plotly_chart")) == 2
    loaded_app.radio(key="retrieval score").set_value("log_prob").run()
    assert titles(loaded_app)[0].endswith("reference -0.50; quantized -2.00; quantized, tuned -1.25")
    assert any(list(d.value.columns[-4:]) == ["outcome", "log_prob", "rank", "margin"] for d in loaded_app.dataframe)
    go(loaded_app, "export")
    page(loaded_app)  # the form is as it was left, and the result is still there
    assert loaded_app.number_input(key="retrieval trials").value == 2
    assert len(loaded_app.get("plotly_chart")) == 2


def test_tuned_scales_are_asked_too(loaded_app, asks):
    go(loaded_app, "tune")
    clicked(loaded_app, "Start the search")
    page(loaded_app)
    assert "100 prompts under 3 conditions" in texts(loaded_app)
    clicked(loaded_app, "Test retrieval")
    assert float(asks[0][1].g.max()) == 2.0  # what the fake search finds


def test_a_reference_that_does_not_retrieve_is_shown_by_log_probability_first(loaded_app, stages):
    from qroar_core.retrieval import run as retrieve

    none = {who: dict.fromkeys(planted_retrieval.PLACES, "nnnn") for who in planted_retrieval.OUTCOMES}
    stages.patch(retrieve, "run", lambda *a, **kw: planted_retrieval.retrieval(outcomes=none))
    page(loaded_app)
    clicked(loaded_app, "Test retrieval")
    assert "the reference itself does not retrieve: 0 of 16" in texts(loaded_app)
    assert loaded_app.radio(key="retrieval score").value == "log_prob"


def test_an_empty_choice_keeps_the_one_before_and_says_so(loaded_app, asks):
    page(loaded_app)
    loaded_app.multiselect(key="retrieval tasks").set_value([]).run()
    assert "until then the earlier ones stay" in loaded_app.warning[0].value
    clicked(loaded_app, "Test retrieval")
    assert asks[0][0].tasks == ("passkey", "needles")


def test_lengths_that_hold_no_prompt_are_not_offered(loaded_app, asks):
    loaded_app.number_input(key="length").set_value(32).run()
    go(loaded_app, "retrieval")
    lengths = loaded_app.multiselect(key="retrieval lengths")
    assert (lengths.value, lengths.options) == ([128], ["128"])
    assert "before any text: shorter lengths hold no prompt" in texts(loaded_app)


def test_what_is_asked_is_in_the_address_and_belongs_to_the_lengths_of_the_evaluation(loaded_app, asks):
    go(loaded_app, "retrieval")
    loaded_app.number_input(key="retrieval trials").set_value(2).run()
    loaded_app.multiselect(key="retrieval lengths").set_value([1024]).run()
    asked = json.loads(loaded_app.query_params["retrieval"])
    assert (asked["trials"], asked["lengths"]) == (2, [1024])
    go(loaded_app, "start")
    loaded_app.number_input(key="length").set_value(512).run()
    go(loaded_app, "retrieval")
    assert loaded_app.multiselect(key="retrieval lengths").value == [128, 512]
    assert loaded_app.number_input(key="retrieval trials").value == 2
