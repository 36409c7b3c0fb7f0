"""The Pareto front against brute force, its steps and the choice against SciPy's paired t test."""

import random
from statistics import fmean

import pytest
from scipy import stats

from qroar_core.tradeoffs.choice import choose, sentences
from qroar_core.tradeoffs.front import pareto, simplest, steps
from qroar_core.tradeoffs.point import Point, difference


def point(size, lost, remedy="none", sample="windows", name="", **other):
    """A point whose windows lose this, with SciPy's interval of their mean."""
    ends = stats.ttest_1samp(lost, 0).confidence_interval() if len(set(lost)) > 1 else (lost[0], lost[0])
    name = name or f"kv={size:g}"
    ends = tuple(map(float, ends))
    return Point(name, remedy, float(size), fmean(lost), *ends, tuple(lost), sample, **other)


def better(one, other):
    """Does the one equal or beat the other in both, and beat it in one?"""
    both = one.bytes_per_token <= other.bytes_per_token and one.loss <= other.loss
    return both and (one.bytes_per_token < other.bytes_per_token or one.loss < other.loss)


@pytest.mark.parametrize("seed", range(40))
def test_the_front_is_what_no_other_point_beats(seed):
    drawn = random.Random(seed)
    points = [
        Point(f"{at}", "none", float(drawn.randrange(1, 9)), drawn.randrange(0, 7) / 4, served=drawn.random() < 0.8)
        for at in range(drawn.randrange(1, 30))
    ]
    there = [one for one in points if one.served]
    expected = {one.name for one in there if not any(better(other, one) for other in there)}
    found = pareto(points)
    assert {one.name for one in found} == expected
    assert len(found) == len(expected)
    assert [one.bytes_per_token for one in found] == sorted(one.bytes_per_token for one in found)


def test_no_points_have_no_front():
    assert pareto([]) == []
    assert steps([]) == []
    assert pareto([Point("a", "scales", 1.0, 0.1, served=False)]) == []


def test_windows_of_the_same_text_are_paired():
    one, other = point(1, (0.30, 0.52, 0.41)), point(2, (0.20, 0.40, 0.31))
    found, paired = difference(one, other)
    expected = stats.ttest_rel(one.units, other.units).confidence_interval()
    assert paired
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.mean == pytest.approx(0.32 / 3)


def test_without_the_windows_intervals_must_not_overlap():
    apart = Point("a", "none", 1.0, 0.5, 0.4, 0.6), Point("b", "none", 2.0, 0.2, 0.1, 0.3)
    found, paired = difference(*apart)
    assert not paired
    assert (found.mean, found.low, found.high) == pytest.approx((0.3, 0.1, 0.5))
    of_other_text = point(1, (0.3, 0.5, 0.4), sample="x"), point(2, (0.2, 0.4, 0.3), sample="y")
    assert not difference(*of_other_text)[1]
    unknown = difference(Point("a", "none", 1.0, 0.5), apart[1])[0]
    assert not unknown.excludes_zero


def test_a_step_is_significant_only_over_the_last_one_that_stands():
    cheap = point(1, (0.50, 0.52, 0.51, 0.49))
    noisy = point(2, (0.10, 0.90, 0.60, 0.30))  # less on average, from window to window not
    better_ = point(3, (0.30, 0.31, 0.32, 0.29))
    dominated = point(4, (0.40, 0.41, 0.42, 0.39))
    found = steps([dominated, better_, noisy, cheap])
    assert [step.point for step in found] == [cheap, noisy, better_]
    assert [step.significant for step in found] == [True, False, True]
    assert [step.over for step in found] == [None, cheap, cheap]
    gain = stats.ttest_rel(cheap.units, better_.units).confidence_interval()
    assert (found[2].gain.low, found[2].gain.high) == pytest.approx((gain.low, gain.high), abs=1e-12)


def test_at_equal_memory_a_remedy_needs_a_significant_gain():
    plain = point(1, (0.50, 0.52, 0.51, 0.49))
    lucky = point(1, (0.10, 0.90, 0.60, 0.30), "rotation")
    good = point(1, (0.40, 0.43, 0.40, 0.39), "scales")
    assert simplest([lucky, plain]) is plain
    assert simplest([lucky, plain, good]) is good
    assert simplest([good, lucky]) is good


def test_the_choice_goes_by_the_end_of_the_interval_and_not_by_the_mean():
    full = point(8, (0.0, 0.0, 0.0, 0.0), quantized=False)
    wide = point(1, (0.00, 0.09, 0.02, 0.05))  # 0.04 on average, its interval ends at 0.10
    tight = point(2, (0.030, 0.031, 0.029, 0.032))
    lossy = point(0.5, (0.5, 0.52, 0.51, 0.49))
    assert fmean(wide.units) < 0.05 < wide.high
    found = choose([full, lossy, tight, wide], 0.05)
    assert found.point is tight
    assert found.open_below == (wide,)
    assert found.alike == (wide,)
    said = sentences(found, "nll", 1000, 4, 4, 8.0)
    assert said[0] == (
        f"The cheapest format that loses less than 0.05 nats is kv=2: +0.0305 [{tight.low:+.4f}, {tight.high:+.4f}], "
        "at 2 bytes a token, 8e-06 GB at 1,000 tokens x 4, 25% of the unquantized cache"
    )
    assert said[1].startswith("Cheaper ones are not ruled out")
    assert said[1].endswith(": kv=1")
    assert said[2] == "Not distinguishable from it by this measurement: kv=1"


def test_it_says_when_there_is_none():
    lossy = point(1, (0.5, 0.52, 0.51, 0.49))
    found = choose([lossy], 0.05)
    assert (found.point, found.open_below) == (None, ())
    (said,) = sentences(found, "kl", 10, 1, 1, None)
    assert said.startswith("None of 1 measured format is shown to lose less than 0.05 nats: the upper end of no ")
    assert f"The least loss is that of kv=1, +0.5050 [{lossy.low:+.4f}, {lossy.high:+.4f}]" in said
    full = point(8, (0.0, 0.0, 0.0, 0.0), quantized=False)
    first = sentences(choose([lossy, full], 0.05), "nll", 10, 1, 2, 8.0)[0]
    assert first.startswith("No quantized cache is shown to lose less than 0.05 nats")
    assert sentences(choose([], 0.05), "nll", 10, 1, 0, None) == ["Nothing is measured yet, so nothing can be chosen"]


def test_what_is_not_kept_is_never_chosen():
    kept = point(2, (0.030, 0.031, 0.029, 0.032))
    found = point(1, (0.010, 0.011, 0.009, 0.012), "scales", served=False)
    assert choose([found, kept], 0.05).point is kept
    assert choose([found], 0.05).point is None


def test_a_loss_without_an_interval_is_not_shown_to_be_small():
    bare = Point("kv=1", "awq", 1.0, 0.001)
    found = choose([bare], 0.05)
    assert found.point is None
    assert found.open_below == (bare,)
    assert "(no interval is known)" in sentences(found, "kl", 1, 1, 1, None)[0]


def test_gigabytes_are_bytes_by_tokens_by_texts():
    assert Point("kv=q4_0", "none", 576.0, 0.0).gigabytes(32_768, 8) == 576 * 32_768 * 8 / 1e9
