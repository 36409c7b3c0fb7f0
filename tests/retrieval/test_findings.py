"""Retrieval's counts by hand, and what the sentence says in every case a reader may meet."""

import statistics

import pytest

from qroar_core.retrieval.findings import QUANTIZED, REFERENCE, TUNED
from qroar_core.statistics.proportions import wilson
from tests.helpers import planted_retrieval as planted


def cell(result, who, length=None, depth=None):
    return next(c for c in result.cells if (c.model, c.scales, c.length, c.depth) == (*who, length, depth))


def apart(result, what, length=None, depth=None):
    return next(d for d in result.differences if (d.what, d.length, d.depth) == (what, length, depth))


def test_cells_count_every_kind_of_miss_apart():
    result = planted.retrieval(unfit={("passkey", 1024, 0.5): 2})
    assert len(result.cells) == 3 * 5
    one = cell(result, QUANTIZED, 1024, 0.5)
    assert (one.trials, one.hits, one.cut_off, one.no_number, one.chosen, one.unfit) == (4, 1, 0, 1, 2, 2)
    assert (one.hit_low, one.hit_high) == pytest.approx(wilson(1, 4))
    values = [-2 + 1.5 * s for s in planted.SPREAD]
    reach = 3.182446305 * statistics.stdev(values) / 2  # t of 3 degrees of freedom, 4 trials
    assert one.log_prob == pytest.approx(-2)
    assert (one.log_prob_low, one.log_prob_high) == pytest.approx((-2 - reach, -2 + reach))
    assert one.margin == pytest.approx(1)
    assert one.margin_high - one.margin_low == pytest.approx(2 * reach)
    total = cell(result, QUANTIZED)
    assert (total.trials, total.hits, total.cut_off, total.no_number, total.unfit) == (16, 7, 1, 1, 2)


def test_differences_are_paired_by_trial():
    result = planted.retrieval()
    cost = apart(result, "quantized - reference", 1024, 0.0)
    values = [-1.5 + 0.5 * s for s in planted.SPREAD]
    reach = 3.182446305 * statistics.stdev(values) / 2
    assert cost.log_prob == pytest.approx(-1.5)
    assert (cost.log_prob_low, cost.log_prob_high) == pytest.approx((-1.5 - reach, -1.5 + reach))
    assert (cost.gained, cost.lost, cost.p_value) == (0, 4, 0.125)
    total = apart(result, "tuned - quantized")
    assert (total.trials, total.gained, total.lost) == (16, 5, 1)
    assert total.p_value == pytest.approx(2 * 7 / 64)
    assert total.log_prob == pytest.approx(0.75)


def test_a_model_that_retrieves_is_told_in_counts_and_nats():
    (finding,) = planted.retrieval().findings
    assert finding.significant
    assert finding.sentence.startswith(
        "Passkey: by generation the reference finds 15 of 16, the quantized model 7 of 16 (1 cut off, 1 without a "
        "number), with scales 11 of 16; quantization costs 1.500 nats per answer token [1.4"
    )
    assert "; the scales recover +0.750 nats per answer token [+0.6" in finding.sentence
    assert finding.sentence.endswith("significant")


def all_missing(kind="n"):
    return {who: dict.fromkeys(planted.PLACES, kind * 4) for who in (REFERENCE, QUANTIZED, TUNED)}


def test_a_reference_that_does_not_retrieve_is_said_before_any_difference():
    (finding,) = planted.retrieval(outcomes=all_missing()).findings
    assert finding.sentence.startswith(
        "Passkey: the reference itself does not retrieve: 0 of 16 by generation (16 without a number), "
        "so this model cannot show a loss that way; yet its log-probability leans to the hidden number: "
        "+2.500 nats per answer token [+2.4"
    )
    assert "likeliest in 100% of trials, chance 20%; quantization costs" in finding.sentence


def test_a_reference_that_knows_nothing_makes_the_differences_no_matter_of_retrieval():
    trials = [
        planted.trial("passkey", place, i, who, "w", planted.LOG_PROB[who], margin=planted.SPREAD[i])
        for who in (REFERENCE, QUANTIZED, TUNED)
        for place in planted.PLACES
        for i in range(4)
    ]
    (finding,) = planted.made(trials).findings
    assert "0 of 16 by generation, so this model cannot show a loss that way; nor does its log-probability lean" in (
        finding.sentence
    )
    assert "are not about retrieval; quantization costs 1.500" in finding.sentence
    assert "the scales recover +0.750" in finding.sentence
    assert not finding.significant  # there is nothing to recover
    (alone,) = planted.made([t for t in trials if t.model == "reference"]).findings
    assert alone.sentence.endswith("chance 20%); nothing is quantized")


def test_a_gain_whose_interval_holds_zero_is_nothing_significant():
    trials = [
        planted.trial("passkey", place, i, who, "h", -1 + (planted.SPREAD[i] if who == TUNED else 0))
        for who in (REFERENCE, QUANTIZED, TUNED)
        for place in planted.PLACES
        for i in range(4)
    ]
    (finding,) = planted.made(trials).findings
    assert not finding.significant
    assert "the scales recover nothing significant (+0.000 nats per answer token [-0.0" in finding.sentence


def test_scales_that_harm_and_an_unquantized_model_have_their_words():
    trials = [
        planted.trial("passkey", place, i, who, "h", -1 - (2 + planted.SPREAD[i] if who == TUNED else 0))
        for who in (REFERENCE, QUANTIZED, TUNED)
        for place in planted.PLACES
        for i in range(4)
    ]
    assert "the scales cost 2.000 nats per answer token [1.9" in planted.made(trials).findings[0].sentence
    alone = planted.retrieval(conditions=(REFERENCE,))
    assert alone.findings[0].sentence == ("Passkey: by generation the reference finds 15 of 16; nothing is quantized")
    assert alone.differences == []
