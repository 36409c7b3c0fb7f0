"""Evaluate without a browser: what is said of a result, the second search, and the continuations with their marks."""

import json
import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from qroar_core.errors import BadText
from qroar_core.evaluation.continuations_result import Continuation, Continuations
from qroar_core.evaluation.result import DocumentGain
from qroar_core.progress import Step
from qroar_core.scale_search.result import SearchReport
from tests.helpers import planted
from tests.pages.visitor import button, clicked, go, read, texts, titles

pytestmark = pytest.mark.slow


def html(app):
    return [h.proto.body for h in app.get("html")]


def tuned(app):
    go(app, "tune")
    clicked(app, "Start the search")
    return go(app, "evaluate")


def evaluated(app):
    go(app, "evaluate")
    return clicked(app, "Evaluate")


def row(scales, tokens, departs_at, model="quantized"):
    return Continuation(
        model=model,
        scales=scales,
        tokens=tokens,
        pieces=[f"w{t}<" for t in tokens],
        log_prob=[math.log(0.5)] * len(tokens),
        departs_at=departs_at,
    )


def continued(origin="1901-mckinley, tokens 7 to 982"):
    return Continuations(
        prompt_tokens=976,
        left_out=0,
        prompt_end="the end <of> the prompt",
        origin=origin,
        actual="as it went on",
        length=1024,
        rows=[
            row("identity", [1, 2, 3, 4], None, "reference"),
            row("identity", [1, 9, 8, 7], 1),
            row("tuned", [1, 2, 3, 4], None),
        ],
    )


@pytest.fixture
def continues(stages):
    """The continuation stage answers with a planted result and notes what it was asked."""
    from qroar_core.evaluation import continuations

    asked = []

    def fake(loaded, setting, tuned, smooth, spec, documents, on_step=None):
        asked.append((spec, tuned, smooth))
        return continued() if not spec.prompt else continued("your own text").model_copy(update={"actual": ""})

    stages.patch(continuations, "run", fake)
    return asked


def test_the_counts_are_llama_cpps_and_every_figure_is_there(loaded_app, stages):
    result = planted.evaluation().model_copy(update={"rotation": planted.rotation()})
    stages.patch(stages.evaluate, "run", lambda *a, **kw: result)
    evaluated(loaded_app)
    counts = next(d.value for d in loaded_app.dataframe if "KL mean" in d.value)
    line = counts[(counts["length"] == 1024) & (counts["condition"] == "quantized, tuned")].iloc[0]
    assert line["PPL"] == f"{math.exp(2.35):.3f} ± {math.exp(2.35) * 0.01:.3f}"
    assert line["ln(PPL / reference)"] == "+0.2500 ± 0.0235"
    assert (line["KL mean"], line["KL 99 %"], line["same top token"]) == ("0.1000", "1.000", "90.0%")
    assert titles(loaded_app) == [
        "How well is held-out text predicted, by context length?",
        "Is the gain real, and is it repair?",
        "A Hadamard rotation recovers +0.4000 nats; scales add +0.0500 on top",
        "Measured as llama.cpp measures",
        "What does each condition cost against the reference?",
        "Where in the context does it cost?",
        "How far do the predictions move from the reference's?",
    ]
    assert "held-out text of `messages`, messages of US presidents" in texts(loaded_app)
    assert "text checksum abcd1234" in texts(loaded_app)


def test_an_insignificant_gain_is_said_plainly(loaded_app, stages):
    stages.patch(stages.evaluate, "run", lambda *a, **kw: planted.evaluation(significant=False))
    evaluated(loaded_app)
    assert loaded_app.warning[0].value.startswith("**No significant gain: keep identity")
    assert not loaded_app.success


@pytest.mark.parametrize("holds", [True, False])
def test_a_gain_that_is_significant_over_windows_alone_is_not_green(loaded_app, stages, holds):
    counted = DocumentGain(
        documents=7,
        delta_nll=0.03,
        ci_low=0.001 if holds else -0.001,
        ci_high=0.06,
        significant=holds,
        sentence="counted over 7 documents, +0.0300 [x]",
    )
    result = planted.evaluation().model_copy(update={"gain_by_document": counted})
    stages.patch(stages.evaluate, "run", lambda *a, **kw: result)
    evaluated(loaded_app)
    said = [box.value for box in (loaded_app.success if holds else loaded_app.info)]
    assert any(box.startswith("**Significant gain") for box in said)
    assert bool(loaded_app.success) == holds
    assert ("But counted over 7 documents, +0.0300" in texts(loaded_app)) != holds


def test_a_share_that_may_be_zero_is_grey_and_no_large_figure(loaded_app, stages):
    stages.patch(stages.evaluate, "run", lambda *a, **kw: planted.scattered())
    evaluated(loaded_app)
    assert [m.label for m in loaded_app.metric] == ["PPL, reference", "PPL, quantized", "PPL, quantized, tuned"]
    assert "NLL gap recovered  \n:gray[not significant]" in texts(loaded_app)
    assert "45% [-54%, 144%]" in texts(loaded_app)


def test_a_share_that_is_significant_stands_with_its_interval(loaded_app):
    evaluated(loaded_app)
    gap = loaded_app.metric[-1]
    assert (gap.label, gap.value, read(gap.delta)) == ("NLL gap recovered", "50%", "[40%, 60%]")
    assert ":gray[not significant]" not in texts(loaded_app)


def search_saying(stages, report):
    """The fake search, with this report."""
    run = stages.search.run
    stages.patch(stages.search, "run", lambda *a, **kw: replace(run(*a, **kw), report=report))


def test_both_gains_say_what_they_are_measured_on_and_why_they_differ(loaded_app, stages):
    search_saying(stages, planted.report().model_copy(update={"decision": planted.decision()}))
    tuned(loaded_app)
    clicked(loaded_app, "Evaluate")
    said = texts(loaded_app)
    assert "documents that neither the diagnosis nor the search has read, nor its decision whether to keep" in said
    assert "Kept: the scales found, as the search decided on development text;" in said
    assert (
        "Tune's +0.0166 nats and this page's +0.2500 nats for the same scales differ because they are measured on "
        "different documents: Tune's on 8 development windows of 1024 tokens, every token but the first scored; this "
        "page's on 16 held-out windows of 1024 tokens, the last 128 tokens of each scored, those with the most "
        "text before them."
    ) in said


def test_a_search_of_before_is_not_said_to_have_left_held_out_text_alone(loaded_app, stages):
    search_saying(stages, SearchReport.from_file(Path(__file__).parents[1] / "runs" / "older" / "search.json"))
    tuned(loaded_app)
    clicked(loaded_app, "Evaluate")
    said = texts(loaded_app)
    assert "the search is of an older version, which decided on windows of them whether to keep its scales" in said
    assert "neither the diagnosis nor the search has read" not in said
    assert "Tune's on 8 held-out windows, every token but the first scored; this page's on 16 held-out" in said


def test_the_second_search_runs_under_the_rotated_quantizer_and_its_scales_are_measured(loaded_app, stages):
    searched, measured = [], []
    search = stages.search.run

    def noting(loaded, setting, documents, diagnosis=None, on_step=None, **kw):
        searched.append((setting.quant.k.rotation, diagnosis))
        return search(loaded, setting, documents, diagnosis, on_step=on_step)

    def evaluating(loaded, setting, tuned, smooth, documents, on_step=None, rotation_tuned=None):
        measured.append((setting.quant.k.rotation, rotation_tuned))
        return planted.evaluation()

    stages.patch(stages.search, "run", noting)
    stages.patch(stages.evaluate, "run", evaluating)
    evaluated(loaded_app)
    assert (searched, measured) == ([], [("none", None)])
    loaded_app.checkbox(key="rotation scales").check().run()
    assert "Not run for this setup yet" in texts(loaded_app)
    clicked(loaded_app, "Evaluate")
    assert searched == [("hadamard", None)]
    assert measured[1][0] == "none"
    assert float(measured[1][1].g.max()) == 2.0  # what the fake search finds
    assert json.loads(loaded_app.query_params["evaluation"])["rotation_scales"] is True


def test_without_a_rotation_to_apply_the_checkbox_is_closed_and_says_why(loaded_app):
    loaded_app.query_params["quant"] = ""
    loaded_app.selectbox(key="quantizer").select("w4a16").run()
    go(loaded_app, "evaluate")
    box = loaded_app.checkbox(key="rotation scales")
    assert box.disabled
    assert "does not apply to this K quantizer" in box.help


def test_a_failed_second_search_is_one_line_and_the_evaluation_does_not_pretend(loaded_app, stages):
    def failing(*args, **kwargs):
        raise BadText("the text is too short", do="give a longer one")

    stages.patch(stages.search, "run", failing)
    go(loaded_app, "evaluate")
    loaded_app.checkbox(key="rotation scales").check().run()
    clicked(loaded_app, "Evaluate")
    said = [e.value for e in loaded_app.error]
    reason = "the text is too short; give a longer one"
    why = f"it needs “Tune demo under a rotation”, which failed: {reason}"
    assert said == [reason, f"Evaluate demo: not started, {why}"]


def test_continuations_stand_side_by_side_with_the_departure_marked(loaded_app, continues):
    tuned(loaded_app)
    clicked(loaded_app, "Continue the prompt")
    spec, found, smooth = continues[0]
    assert (spec.length, spec.tokens, spec.prompt) == (1024, 48, "")
    assert found is not None
    assert smooth is not None
    said = texts(loaded_app)
    assert "**quantized**: departs from the reference at token 2 of 4" in said
    assert "**quantized, tuned**: all 4 tokens are the reference's" in said
    assert "976 tokens, 1901-mckinley, tokens 7 to 982" in said
    prompt, reference, quantized, scaled, actual = html(loaded_app)
    assert "the end &lt;of&gt; the prompt" in prompt
    assert "background" not in reference + scaled
    assert actual.endswith("as it went on</div>")
    spans = quantized.split("<span ")[1:]
    assert ["background" in span for span in spans] == [False, True, True, True]
    assert ["outline" in span for span in spans] == [False, True, False, False]
    assert 'title="token 2, p = 0.500"' in spans[1]
    assert "w9&lt;" in spans[1]
    assert titles(loaded_app) == ["The first departure from the reference is at token 2"]


def test_an_own_prompt_is_continued_and_never_in_the_address(loaded_app, continues):
    go(loaded_app, "evaluate")
    loaded_app.radio(key="prompt kind").set_value("my own text").run()
    loaded_app.text_area(key="prompt").set_value("Fellow citizens,").run()
    loaded_app.number_input(key="new tokens").set_value(16).run()
    clicked(loaded_app, "Continue the prompt")
    spec, found, _ = continues[0]
    assert (spec.prompt, spec.tokens, found) == ("Fellow citizens,", 16, None)
    assert "your own text" in texts(loaded_app)
    assert len(html(loaded_app)) == 4
    assert "Fellow" not in str(loaded_app.query_params)


def test_continuations_can_be_cancelled(loaded_app, stages):
    from qroar_core.evaluation import continuations

    started = threading.Event()

    def slow(*args, on_step=None, **kwargs):
        while True:
            on_step(Step("held", 1, 4, "reference/identity"))
            started.set()

    stages.patch(continuations, "run", slow)
    go(loaded_app, "evaluate")
    button(loaded_app, "Continue the prompt").click().run()
    assert started.wait(5)
    loaded_app.run()
    assert button(loaded_app, "Continue the prompt").disabled
    clicked(loaded_app, "Cancel")
    assert "cancelled" in texts(loaded_app)
    assert not button(loaded_app, "Continue the prompt").disabled
