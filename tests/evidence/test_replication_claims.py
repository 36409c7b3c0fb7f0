"""The claims' rules: every verdict in a case made for it, figures against numpy and scipy."""

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from qroar_core.evidence.replication.claims import (
    CLAIMS,
    accuracy,
    amplified,
    perplexity,
    pressure,
    short_context,
    tails,
    untestable,
)
from qroar_core.harness.result import Change
from qroar_core.result_shapes import contradiction
from tests.helpers import planted, planted_evidence
from tests.helpers.planted_task_scores import task_scores

SURE = 0.9
BASE = np.random.default_rng(8).normal(3.0, 0.4, 7)
WOBBLE = np.array([3, -3, 2, -2, 1, -1, 0]) * 0.001  # mean 0


def near(shift, by=1):
    return (BASE + shift + by * WOBBLE).tolist()


def interval(before, after):
    found = ttest_rel(before, after).confidence_interval(SURE)
    return float(found.low), float(found.high)


@pytest.mark.parametrize(("more", "verdict"), [(0.05, "holds"), (-0.05, "does not hold"), (0.0, "undecided")])
def test_amplification_is_the_difference_of_two_costs(more, verdict):
    here, natively = near(0.1 + more), near(0.1, -1)
    claim = amplified("amplified", here, natively, SURE, "at 64 tokens")
    assert claim.verdict == verdict
    assert claim.value.mean == pytest.approx(more)
    assert (claim.value.low, claim.value.high) == pytest.approx(interval(here, natively))
    assert f"{np.mean(here):+.4f} nats under the interpolation, {np.mean(natively):+.4f} natively" in claim.detail


@pytest.mark.parametrize(("cost", "verdict"), [(0.002, "holds"), (0.0099, "undecided"), (0.02, "does not hold")])
def test_short_context_is_kept_only_if_the_whole_interval_is_below_the_tolerance(cost, verdict):
    claim = short_context(near(0.3), near(0.3 + cost, -1), 0.01, SURE, 64)
    assert (claim.verdict, claim.value.mean) == (verdict, pytest.approx(cost))
    assert claim.detail == "tolerance 0.01 nats, at 64 tokens"


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.2, "holds"), (0.0726, "undecided"), (0.03, "does not hold"), (0.0, "does not hold")]
)
def test_perplexity_must_fall_by_the_least_share_claimed(gain, verdict):
    before, after = near(0.5), near(0.5 - gain, -1)
    claim = perplexity(before, after, 0.07, SURE, 1024)
    assert claim.verdict == verdict
    assert claim.value.mean == pytest.approx(100 * (1 - math.exp(np.mean(after)) / math.exp(np.mean(before))))
    low, high = interval(before, after)
    assert (claim.value.low, claim.value.high) == pytest.approx(
        (100 * (1 - math.exp(-low)), 100 * (1 - math.exp(-high)))
    )


def test_no_scales_cut_nothing_and_say_why():
    claim = perplexity(near(0.5), near(0.5), 0.07, SURE, 1024, "an exact no-op; ")
    assert (claim.verdict, claim.value.mean, claim.value.low, claim.value.high) == ("does not hold", 0, 0, 0)
    assert claim.detail == "an exact no-op; +0.0000 nats at 1024 tokens"


def diagnosed(pressures=None, ratio=None, low=None, high=None):
    """Twelve pairs from fast to slow, two layers of two heads and two bands."""
    base = planted.diagnosis()
    found = base.pairs.model_copy(
        update={
            "native_inv_freq": [2.0**-i for i in range(12)],
            "interpolation_pressure": pressures or [float(12 - i) for i in range(12)],
            "logit_weighted_pressure": list(range(12)),
        }
    )
    update = {"pairs": found}
    if ratio:
        table = base.tails["k/post"].model_copy(update={"ratio": ratio, "low": low or ratio, "high": high or ratio})
        update["tails"] = base.tails | {"k/post": table}
    return base.model_copy(update=update)


def test_pressure_is_a_rank_correlation_with_frequency():
    falling = pressure("pressure", diagnosed(), SURE)  # the fast pairs are under most
    assert (falling.verdict, falling.value.mean) == ("holds", pytest.approx(1.0))
    assert "over 12 RoPE pairs; the highest pressure is on pair 0" in falling.detail
    rising = pressure("weighted_pressure", diagnosed(), SURE)
    assert (rising.verdict, rising.value.mean) == ("does not hold", pytest.approx(-1.0))
    mixed = [3.0, 7.0, 1.0, 12.0, 5.0, 10.0, 2.0, 9.0, 11.0, 4.0, 8.0, 6.0]
    claim = pressure("pressure", diagnosed(mixed), SURE)
    ranks = np.argsort(np.argsort(mixed))
    assert claim.value.mean == pytest.approx(np.corrcoef(np.arange(12)[::-1], ranks)[0, 1])
    assert claim.verdict == "undecided"
    assert pressure("pressure", diagnosed([1.0] * 12), SURE).verdict == "not testable here"
    assert pressure("pressure", None, SURE).detail == "nothing was diagnosed"


def test_tails_are_a_geometric_mean_with_an_interval_over_layers():
    ratio = [[[1.2, 1.4], [1.1, None]], [[1.3, 1.3], [1.5, 1.2]]]
    low = [[[1.1, 1.3], [0.9, None]], [[1.2, 1.2], [1.4, 0.8]]]
    claim = tails("tails_k", diagnosed(ratio=ratio, low=low), SURE)
    layers = [np.mean(np.log([1.2, 1.4, 1.1])), np.mean(np.log([1.3, 1.3, 1.5, 1.2]))]
    reach = t.ppf(0.95, 1) * np.std(layers, ddof=1) / math.sqrt(2)
    assert claim.value.mean == pytest.approx(math.exp(np.mean(layers)))
    assert claim.value.low == pytest.approx(math.exp(np.mean(layers) - reach))
    assert claim.verdict == ("holds" if claim.value.low > 1 else "undecided")
    assert claim.detail.startswith("5 of 7 cells of layer, head and band clearly above 1, 0 clearly below")
    shrunk = tails("tails_k", diagnosed(ratio=[[[0.8, 0.8], [0.8, 0.8]], [[0.81, 0.81], [0.81, 0.81]]]), SURE)
    assert shrunk.verdict == "does not hold"
    assert "0 of 8 cells of layer, head and band clearly above 1, 8 clearly below" in shrunk.detail


def test_one_layer_has_no_interval():
    claim = tails("tails_k", diagnosed(ratio=[[[1.2, 1.4], [1.1, 1.0]]]), SURE)
    assert (claim.verdict, claim.value) == ("not testable here", None)


def test_every_claim_states_its_rule():
    assert {rule.unit for rule in CLAIMS.values()} == {"nats", "rho", "times", "%", "points"}
    assert all(rule.statement and rule.rule for rule in CLAIMS.values())
    assert untestable("perplexity", "because").detail == "because"


def right_or_wrong(gained, lost, documents, task="mine", metric="acc"):
    return Change(
        task=task,
        metric=metric,
        filter="none",
        what="tuned - quantized",
        documents=documents,
        mean=(gained - lost) / documents,
        low=None,
        high=None,
        gained=gained,
        lost=lost,
        p_value=None,
    )


def test_accuracy_is_counted_over_the_documents_of_all_tasks():
    two = [right_or_wrong(30, 5, 100), right_or_wrong(50, 0, 100, metric="acc_norm"), right_or_wrong(4, 3, 50, "other")]
    claim = accuracy(task_scores().model_copy(update={"changes": two}), 0.95)
    assert claim.verdict == "holds"
    assert claim.detail.startswith(
        "34 of 150 answers gained, 8 lost; mine +25.00 (acc), other +2.00 (acc); at most 512"
    )
    mean = 26 / 150
    se = math.sqrt((42 - 150 * mean**2) / 149 / 150)  # of values 1, -1 and 0
    assert claim.value.mean == pytest.approx(100 * mean)
    assert claim.value.low == pytest.approx(100 * (mean - 1.976013 * se), abs=1e-4)  # Student's t of 149 degrees
    worse = accuracy(task_scores().model_copy(update={"changes": [right_or_wrong(5, 30, 100)]}), 0.95)
    assert worse.verdict == "does not hold"


def test_few_answers_that_change_decide_nothing():
    claim = accuracy(task_scores(), 0.95)  # one gained of eight
    assert (claim.verdict, claim.value.mean) == ("undecided", 12.5)
    all_alike = accuracy(task_scores().model_copy(update={"changes": [right_or_wrong(3, 0, 3)]}), 0.95)
    assert all_alike.verdict == "undecided"  # an interval of no width, and p is 0.25
    unchanged = accuracy(task_scores().model_copy(update={"changes": [right_or_wrong(0, 0, 12)]}), 0.95)
    assert (unchanged.verdict, unchanged.value) == ("undecided", None)  # twelve zeros have no spread
    assert unchanged.detail.startswith("0 of 12 answers gained, 0 lost")
    none = accuracy(task_scores().model_copy(update={"changes": []}), 0.95)
    assert (none.verdict, none.value) == ("not testable here", None)


def test_a_file_has_the_claim_about_accuracy_where_tasks_were_asked():
    old = planted_evidence.replication()
    assert contradiction(old) == ""
    assert "every claim once" in contradiction(old.model_copy(update={"tasks": {"tasks": ["a"]}}))
    more = [one.model_copy(update={"claims": [*one.claims, accuracy(task_scores(), 0.95)]}) for one in old.cases]
    assert contradiction(old.model_copy(update={"tasks": {"tasks": ["a"]}, "cases": more})) == ""
    assert "every claim once" in contradiction(old.model_copy(update={"cases": more}))
