"""Controls from window means: intervals against scipy's paired t-test, sentences in cases with a known answer."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from qroar_core.evidence.controls.findings import controls_of, counted, findings, precision_of
from tests.helpers import planted_evidence

SURE = 0.9
BASE = np.random.default_rng(3).normal(3.0, 0.5, 6)  # windows differ far more than conditions
WOBBLE = np.array([1, -1, 1, -1, 1, -1]) * 0.002  # mean 0, so that a shift is the mean
LOADED = "float32"


def near(shift, sign=1):
    return (BASE + shift + sign * WOBBLE).tolist()


def means(**changed):
    """Gains: tuned 0.2, shuffled bands -0.05, heads 0.12 (draws 0.10 and 0.14), novels 0.15, seeds 0.19 and 0.21."""
    nll = {
        "reference/identity": [BASE.tolist()],
        "reference/tuned": [BASE.tolist()],
        "quantized/identity": [near(0.4)],
        "quantized/tuned": [near(0.2, -1)],
        "shuffled bands": [near(0.45, 2)],
        "shuffled heads": [near(0.3), near(0.26)],
        "other seeds": [near(0.21), near(0.19)],
        "novels": [near(0.25)],
    }
    return nll | changed


def by_kind(nll):
    return {control.kind: control for control in controls_of(nll, SURE)}


def sentences(nll, mode="symmetric", precisions=()):
    return {f.about: (f.good, f.sentence) for f in findings(controls_of(nll, SURE), precisions, mode)}


def test_every_gain_is_scipys_paired_interval_against_identity_of_the_same_model():
    nll = means(**{"reference/tuned": [near(0.03)]})
    found = by_kind(nll)
    named = {"tuned": "quantized/tuned", "bands": "shuffled bands", "text": "novels", "unquantized": "reference/tuned"}
    for kind, name in named.items():
        model = "reference" if kind == "unquantized" else "quantized"
        before, after = nll[f"{model}/identity"][0], nll[name][0]
        interval = ttest_rel(before, after).confidence_interval(SURE)
        gain = found[kind].gain
        assert (gain.low, gain.high) == pytest.approx((float(interval.low), float(interval.high)))
        assert gain.mean == pytest.approx(np.mean(before) - np.mean(after))
    lost = ttest_rel(nll["novels"][0], nll["quantized/tuned"][0]).confidence_interval(SURE)
    assert (found["text"].lost.low, found["text"].lost.high) == pytest.approx((float(lost.low), float(lost.high)))
    assert found["tuned"].lost is None
    assert found["unquantized"].lost is None


def test_several_draws_are_one_mean_with_their_span():
    heads = by_kind(means())["heads"]
    assert heads.draws == 2
    assert (heads.least, heads.most) == pytest.approx((0.10, 0.14))
    assert heads.gain.mean == pytest.approx(0.12)
    assert heads.lost.mean == pytest.approx(0.08)


def test_a_real_repair_is_said_to_be_one():
    said = sentences(means())
    assert said["tuned"] == (True, "the tuned scales gain +0.2000 nats [+0.1964, +0.2036]")
    assert said["unquantized"][0] is True
    assert "change nothing (+0.0000 nats [+0.0000, +0.0000]), as symmetric ones must" in said["unquantized"][1]
    assert said["bands"][0] is True
    assert said["bands"][1].startswith("shuffled among the bands of each head, the scales lose +0.2500 nats")
    assert "and then cost +0.0500 nats" in said["bands"][1]
    assert said["bands"][1].endswith("which band gets which scale matters")
    assert "lose +0.0800 nats" in said["heads"][1]
    assert "and then gain +0.1200 nats" in said["heads"][1]
    assert said["text"][1].startswith("scales searched on novels of Jane Austen gain +0.1500 nats")
    assert "75% of the gain; +0.0500 nats" in said["text"][1]
    assert "less than the tuned: the text it was searched on matters" in said["text"][1]
    assert said["seed"][1].startswith("scales searched with other seeds gain")
    assert "+0.1900 to +0.2100 by single searches" in said["seed"][1]
    assert "no significant difference to the tuned" in said["seed"][1]


def test_a_search_that_keeps_identity_is_said_to():
    nll = means(novels=[near(0.4)])
    assert sentences(nll)["text"] == (
        False,
        "a search on novels of Jane Austen found no scales worth keeping: none are better there, or the guard rejects "
        "them",
    )


def test_the_opposite_is_said_as_plainly():
    said = sentences(means(**{"shuffled bands": [near(0.1)], "quantized/tuned": [near(0.4, 40)]}))
    assert said["tuned"][0] is None
    assert said["tuned"][1].startswith("no significant gain: keep identity")
    assert said["bands"][0] is False
    assert "more: which band gets which scale is not what helps" in said["bands"][1]
    unsure = sentences(means(**{"shuffled bands": [near(0.2, 60)]}))["bands"]
    assert unsure[0] is None
    assert "it is not shown that which band gets which scale matters" in unsure[1]


@pytest.mark.parametrize(
    ("shift", "good", "words"),
    [
        (-0.05, False, "gain +0.0500 nats [+0.0482, +0.0518], 25% of the gain: that part is retuning"),
        (0.05, True, "cost +0.0500 nats"),
        (0.0, True, "change nothing significant"),
    ],
)
def test_shared_scales_may_retune_the_unquantized_model(shift, good, words):
    said = sentences(means(**{"reference/tuned": [near(shift)]}), mode="shared")["unquantized"]
    assert said[0] is good
    assert words in said[1]


def test_symmetric_scales_that_move_the_unquantized_model_are_not_exact():
    good, said = sentences(means(**{"reference/tuned": [near(0.01)]}))["unquantized"]
    assert good is False
    assert "they are not exact in this number format" in said


def precision(dtype, reference, before, after):
    nll = {
        "reference/identity": [near(reference)],
        "quantized/identity": [near(before)],
        "quantized/tuned": [near(after, -1)],
    }
    return precision_of(dtype, nll, BASE.tolist(), SURE, loaded=dtype == LOADED)


def test_number_formats_hold_what_their_own_reference_says():
    one = precision("bfloat16", 0.01, 0.41, 0.22)
    assert one.reference.mean == pytest.approx(0.01)
    assert one.cost.mean == pytest.approx(0.40)
    assert one.gain.mean == pytest.approx(0.19)
    assert one.above.mean == pytest.approx(0.21)
    assert precision(LOADED, 0.0, 0.4, 0.2).reference is None
    good, said = sentences(means(), precisions=[precision(LOADED, 0.0, 0.4, 0.2), one])["dtype"]
    assert good is True
    assert said.count("the scales gain") == 2


def test_a_poor_reference_is_not_a_good_quantized_model():
    beaten = sentences(means(), precisions=[precision("float16", 0.5, 0.41, 0.22)])["dtype"]
    assert beaten[0] is False
    assert "the quantized model beats its own reference by +0.2800 nats" in beaten[1]
    assert "that reference is poor" in beaten[1]
    costly = sentences(means(), precisions=[precision("bfloat16", 0.06, 0.41, 0.22)])["dtype"]
    assert costly[0] is False
    assert "its reference alone costs +0.0600 nats" in costly[1]


def test_overflow_is_said_and_not_counted():
    nll = {
        "reference/identity": [[float("nan")] * 6],
        "quantized/identity": [near(0.4)],
        "quantized/tuned": [near(0.2)],
    }
    one = precision_of("float16", nll, BASE.tolist(), SURE, loaded=False)
    assert (one.gain, one.cost) == (None, None)
    assert "float16 is left out (its numbers overflow" in sentences(means(), precisions=[one])["dtype"][1]


@pytest.mark.parametrize(
    ("documents", "good", "words"),
    [
        (["a", "a", "b", "b", "c", "c"], None, "But counted over 3 documents instead of 6 windows, the gain is not"),
        (
            ["a", "b", "c", "d", "e", "f"],
            True,
            "; counted over 6 documents instead of 6 windows, the gain remains significant: +0.5",
        ),
        (["a", "a", "a", "b", "b", "b"], True, "+0.5"),
        ([], True, "+0.5"),
    ],
)
def test_a_gain_that_documents_do_not_bear_out_is_not_said_to_stand(documents, good, words):
    """Gains of 0.1, 0.5 and 0.9 in three documents: over six windows t is 3.8, over three documents 2.2 (needs 4.3)."""
    before = BASE + 0.5 + np.repeat([-0.4, 0.0, 0.4], 2)
    nll = means(**{"quantized/identity": [before.tolist()], "quantized/tuned": [BASE.tolist()]})
    assert ttest_rel(before, BASE).pvalue < 0.05 < ttest_rel([0.1, 0.5, 0.9], [0.0] * 3).pvalue
    made = controls_of(nll, 0.95)
    found = findings(made, [], "symmetric", counted(nll, documents, 0.95))[0]
    assert found.good is good
    assert words in found.sentence
    assert found.sentence.startswith("the tuned scales gain +0.5000 nats")


def test_controls_say_which_targets_they_score():
    assert planted_evidence.controls().measured_on == "3 planted windows, all 1,023 targets of each window scored"
