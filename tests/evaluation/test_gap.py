"""A share of the gap, its interval and its words: recomputed from the window means."""

from pathlib import Path

import pytest
from scipy import stats

from qroar_core.evaluation.gap import Share, remedy_share, tuned_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.statistics.intervals import Interval
from tests.helpers import planted, planted_comparison

OLDER = Path(__file__).parents[1] / "runs" / "older"  # of b951c7e's time


def left_over(before, after, reference, share):
    """What is won beyond this share of the loss, window by window."""
    return [b - a - share * (b - r) for b, a, r in zip(before, after, reference, strict=True)]


@pytest.mark.parametrize(
    "evaluation", [planted.scattered(), Evaluation.from_file(OLDER / "evaluation.json")], ids=["planted", "older"]
)
def test_the_ends_are_those_of_a_t_test_of_what_is_left_over(evaluation):
    share, length = tuned_share(evaluation), evaluation.gain.length
    means = [
        evaluation.window_nll[f"{length}/{which}"]
        for which in ("quantized/identity", "quantized/tuned", "reference/identity")
    ]
    for end in (share.low, share.high):
        assert stats.ttest_1samp(left_over(*means, end), 0.0).pvalue == pytest.approx(0.05, rel=1e-3)
    assert share.low < share.mean < share.high
    assert share.mean == evaluation.gap_recovered
    assert not share.significant
    assert share.low < 0 < share.high


def test_a_remedy_is_measured_against_the_plain_quantizer_and_the_reference():
    made = planted_comparison.comparison()
    rows = {row.key: row for row in made.rows}
    assert remedy_share(made, rows["plain"]) is None
    known = {key: remedy_share(made, row) for key, row in rows.items() if key != "plain"}
    for key, share in known.items():
        means = (rows["plain"].window_nll, rows[key].window_nll, made.reference_window_nll)
        assert stats.ttest_1samp(left_over(*means, share.low), 0.0).pvalue == pytest.approx(0.05, rel=1e-6)
        assert share.significant == (rows[key].gain_low > 0)
    weak = planted_comparison.comparison({"plain": 0.5, "rotation": 0.499})  # less than the windows differ by
    share = remedy_share(weak, weak.rows[1])
    assert not share.significant
    assert share.words == f"not significant (0% [{share.low:.0%}, {share.high:.0%}])"


def test_no_gain_or_no_gap_is_no_share():
    whole = planted.evaluation()
    assert tuned_share(whole).words == "50% [40%, 60%]"
    for missing in ({"gain": None}, {"gap_recovered": None}):
        assert tuned_share(whole.model_copy(update=missing)) is None


def test_the_words():
    interval = Interval(0.63, 0.52, 0.75, 0.01)
    assert Share(0.63, interval, True).words == "63% [52%, 75%]"
    assert Share(0.45, Interval(0.45, -0.08, 0.98, 0.1), False).words == "not significant (45% [-8%, 98%])"
    assert Share(0.63, None, True).words == "63%"  # a file without window means
    assert Share(-0.2, Interval(-0.2, -0.3, -0.1, 0.1), True).words == "-20% [-30%, -10%]"
