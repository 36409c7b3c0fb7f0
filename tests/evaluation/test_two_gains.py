"""What the search's decision and the evaluation say together, in new runs and in those of before."""

from pathlib import Path

import pytest

from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.two_gains import decided_on_held_out, kept_words, why_beside, why_different
from qroar_core.scale_search.result import SearchReport
from tests.helpers import planted

OLDER = Path(__file__).parents[1] / "runs" / "older"
HERE = "16 held-out windows of 1024 tokens, the last 128 tokens of each scored"
THERE = "as the search decided on development text; the evaluation on held-out text shows"
KEPT = {
    ("found", True): f"kept: the scales found, {THERE} a significant gain too",
    ("found", False): "kept: identity; the search decided on development text to keep the scales, but the evaluation "
    "on held-out text shows no significant gain and takes them back",
    ("identity", True): f"kept: identity, {THERE} a significant gain of the scales found, but held-out text only "
    "reports and can only take scales back",
    ("identity", False): f"kept: identity, {THERE} no significant gain either",
}


def searched(**more):
    return planted.report().model_copy(update={"decision": planted.decision(), **more})


@pytest.mark.parametrize(("chosen", "significant"), KEPT)
def test_which_scales_are_kept_and_by_which_two_numbers(chosen, significant):
    assert kept_words(searched(chosen=chosen), planted.evaluation(significant)) == KEPT[chosen, significant]


def test_a_search_that_measured_no_gain_names_no_text():
    undecided = searched(chosen="identity", decision=None, reason="not decided: keep identity, ...")
    said = kept_words(undecided, planted.evaluation(False))
    assert said.startswith("kept: identity, as the search decided; the evaluation")


def test_why_the_two_numbers_differ_names_documents_windows_length_and_targets():
    assert why_different(searched(), planted.evaluation(), "Tune", "this page") == (
        "Tune's +0.0166 nats and this page's +0.2500 nats for the same scales differ because they are measured on "
        "different documents: Tune's on 8 development windows of 1024 tokens, every token but the first scored; "
        f"this page's on {HERE}, those with the most text before them"
    )
    slid = planted.evaluation().model_copy(update={"stride": 32})
    assert why_different(searched(), slid).endswith(
        "this evaluation's on 16 held-out texts, 128 tokens of each scored by windows of 1024 that slide by 32, "
        "those with the most text before them"
    )


def test_where_one_of_the_two_is_missing_nothing_is_explained():
    assert why_different(searched(decision=None), planted.evaluation()) == ""
    untuned = planted.evaluation().model_copy(update={"gain": None})
    assert why_different(searched(), untuned) == kept_words(searched(), untuned) == ""


def test_a_run_of_before_opens_and_says_that_held_out_text_decided():
    report = SearchReport.from_file(OLDER / "search.json")
    evaluation = Evaluation.from_file(OLDER / "evaluation.json")
    assert report.reason == "significant gain: +0.1007 nats [+0.0693, +0.1321] on 8 held-out windows"
    assert report.decision is None
    assert decided_on_held_out(report)
    assert not decided_on_held_out(searched())
    assert kept_words(report, evaluation) == (
        "kept: identity; the search decided on held-out text to keep the scales, but the evaluation on held-out text "
        "shows no significant gain and takes them back"
    )
    assert why_different(report, evaluation) == (
        "the search's +0.1007 nats and this evaluation's +0.0262 nats for the same scales differ because they are "
        "measured on different tokens: the search's on 8 held-out windows, every token but the first scored; this "
        "evaluation's on 4 held-out windows of 256 tokens, the last 32 tokens of each scored, those with the most text "
        "before them"
    )


def test_another_page_says_why_its_gain_of_the_same_scales_is_another_number():
    assert why_beside(planted.evaluation(), 0.0257, 16, 1024) == (
        "This page's +0.0257 nats and Evaluate's +0.2500 nats differ because they are measured on other targets: here "
        "on 16 held-out windows of 1024 tokens, every token but the first scored; there on 16 held-out windows of 1024 "
        "tokens, the last 128 tokens of each scored"
    )
    assert ", with scales that were searched again:" in why_beside(planted.evaluation(), 0.0257, 16, 1024, same=False)
    assert why_beside(planted.evaluation(), 0.25, 16, 1024) == ""
    assert why_beside(planted.evaluation().model_copy(update={"gain": None}), 0.0257, 16, 1024) == ""
