"""The interval of a share: its ends are where a t test of what is left over stops to reject."""

import pytest
from scipy import stats

from qroar_core.statistics.intervals import mean_interval, ratio_interval


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize(
    ("parts", "wholes"),
    [
        ([0.1, 0.12, 0.09], [0.2, 0.23, 0.2]),
        ([0.3, 0.1, 0.25, 0.2], [0.3, 0.4, 0.35, 0.28]),
        ([-0.02, 0.01], [0.4, 0.41]),
    ],
)
def test_at_both_ends_a_t_test_is_at_its_limit(parts, wholes, confidence):
    found = ratio_interval(parts, wholes, confidence)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(sum(parts) / sum(wholes), rel=1e-12)
    for end in (found.low, found.high):
        left = [p - end * w for p, w in zip(parts, wholes, strict=True)]
        assert stats.ttest_1samp(left, 0.0).pvalue == pytest.approx(1 - confidence, rel=1e-6)
    inside = [p - (found.low + 1e-3) * w for p, w in zip(parts, wholes, strict=True)]
    assert stats.ttest_1samp(inside, 0.0).pvalue > 1 - confidence


def test_wholes_that_are_all_alike_give_the_interval_of_the_parts():
    parts = [0.3, 0.1, 0.25]
    found, plain = ratio_interval(parts, [0.5, 0.5, 0.5]), mean_interval(parts)
    for share, value in ((found.low, plain.low), (found.high, plain.high), (found.se, plain.se)):
        assert share == pytest.approx(value / 0.5, rel=1e-12)


def test_without_a_whole_that_differs_from_nothing_there_is_no_bound():
    assert ratio_interval([0.1, 0.1], [0.4, 0.01]) is None
    assert ratio_interval([0.1], [0.2]) is None
    assert ratio_interval([0.1, 0.2], [0.2, 0.4]) is None  # half of each, but the wholes' own interval holds zero
    exact = ratio_interval([0.1, 0.105], [0.2, 0.21])
    assert (exact.low, exact.high) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.5, abs=1e-6))
    with pytest.raises(ValueError, match="2 and 1"):
        ratio_interval([0.1, 0.2], [0.1])
