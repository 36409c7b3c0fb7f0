"""Outlier maps, rules, shifts and what is dealt at random, against loops, scipy and the standard library."""

import statistics

import numpy as np
import pytest
import torch
from scipy import stats

from qroar_core.diagnostics.outliers import measure as outliers
from qroar_core.diagnostics.outliers import rules
from qroar_core.diagnostics.outliers.table import compared
from qroar_core.errors import BadSpec
from qroar_core.maths.positions import PositionBins

HEADS, KV, D, L = 4, 2, 16, 50


def signal(seed: int = 0) -> torch.Tensor:
    return torch.randn(HEADS, L, D, generator=torch.Generator().manual_seed(seed))


def maps_of(x: torch.Tensor, bins: int = 7, chunks: tuple[int, ...] = (9, 30, 11)) -> outliers.ChannelMaps:
    meter, start = outliers.ChannelMeter(len(x), x.shape[-1], PositionBins(L, bins)), 0
    for part in x.split(list(chunks), 1):
        meter.update(start, part)
        start += part.shape[1]
    return meter.result()


def test_maps_are_the_plain_reductions_of_each_cell():
    x = signal()
    found = maps_of(x)
    for p in range(7):
        here = [m for m in range(L) if m * 7 // L == p]
        for head in range(HEADS):
            part = x[head, here].double().numpy()
            assert int(found.count[p]) == len(part)
            assert found.mean_abs[head, :, p].numpy() == pytest.approx(np.abs(part).mean(0), rel=1e-6)
            assert found.rms[head, :, p].numpy() == pytest.approx(np.sqrt((part**2).mean(0)), rel=1e-6)
            assert found.maximum[head, :, p].numpy() == pytest.approx(np.abs(part).max(0), rel=1e-6)


PARAMETERS = [("iqr", None), ("iqr", 3.0), ("mad", None), ("mad", 2.0), ("percentile", None), ("percentile", 0.9)]


def brute_limit(values: list[float], rule: str, parameter: float | None) -> float:
    """From definitions that share no code with torch's or numpy's quantile."""
    if rule == "percentile":
        wanted = 0.99 if parameter is None else parameter
        ordered = sorted(values)
        rank = wanted * (len(values) - 1)
        low = int(rank)
        high = min(low + 1, len(values) - 1)
        return ordered[low] + (rank - low) * (ordered[high] - ordered[low])
    if rule == "iqr":
        q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
        assert q3 - q1 == pytest.approx(stats.iqr(values))
        return q3 + (1.5 if parameter is None else parameter) * (q3 - q1)
    spread = stats.median_abs_deviation(values) / 0.6745
    return statistics.median(values) + (3.5 if parameter is None else parameter) * spread


@pytest.mark.parametrize(("rule", "parameter"), PARAMETERS)
@pytest.mark.parametrize("n", [5, 16, 64])
def test_rules_are_those_of_scipy_and_the_standard_library(rule, parameter, n):
    x = torch.rand(3, n, generator=torch.Generator().manual_seed(n)).double()
    x[1, 2] = 40.0
    found = rules.outlier_limit(x, rule, parameter)
    assert found.tolist() == pytest.approx([brute_limit(row.tolist(), rule, parameter) for row in x])
    assert x[1, 2] > found[1]


def test_unknown_rule_lists_the_known():
    with pytest.raises(BadSpec, match="iqr, mad, percentile"):
        rules.outlier_limit(torch.ones(4), "zscore")


def test_the_asked_parameter_is_among_those_offered():
    assert ("iqr", 1.7) in rules.offered("iqr", 1.7)
    assert ("mad", 1.7) not in rules.offered("iqr", 1.7)
    assert len(rules.offered("iqr", 1.5)) == 18


def planted_move() -> torch.Tensor:
    """Head 0: channels 3 and 5 early, 5 and 9 late. Head 1: 3 early, none late."""
    x = signal()[:2]
    edge = 29  # bins 0..3 of 7 end at ceil(4 * 50 / 7) = 29
    x[0, :edge, [3, 5]] *= 30
    x[0, edge:, [5, 9]] *= 30
    x[1, :edge, 3] *= 30
    return x


@pytest.mark.parametrize("rule", ["iqr", "mad"])
def test_planted_outliers_are_found_where_they_are_and_their_move_is_measured(rule):
    x, edge = planted_move(), 29
    maps = maps_of(x)
    found = rules.outlier_shift(maps.mean_over(slice(0, 4)), maps.mean_over(slice(4, 7)), rule)
    sets = [[set(torch.nonzero(mask[h])[:, 0].tolist()) for h in range(KV)] for mask in (found.first, found.second)]
    assert sets == [[{3, 5}, {3}], [{5, 9}, set()]]
    assert found.jaccard.tolist() == pytest.approx([len({5}) / len({3, 5, 9}), 0.0])
    assert (found.either.tolist(), found.both.tolist()) == ([3.0, 1.0], [1.0, 0.0])
    early, late = x[0, :edge].abs().double().mean(0), x[0, edge:].abs().double().mean(0)
    p = {c: float(early[c] / (early[3] + early[5])) for c in (3, 5)} | {9: 0.0}
    q = {c: float(late[c] / (late[5] + late[9])) for c in (5, 9)} | {3: 0.0}
    assert found.mass_moved.tolist() == pytest.approx([sum(abs(p[c] - q[c]) for c in p) / 2, 1.0])


def test_a_still_signal_moves_nothing_and_a_flat_one_has_no_outliers_to_move():
    x = signal()[:2, :1].expand(-1, L, -1).clone()
    x[0, :, 4] = 50.0
    x[1] = 1.0
    maps = maps_of(x)
    found = rules.outlier_shift(maps.mean_over(slice(0, 3)), maps.mean_over(slice(4, 7)))
    assert found.jaccard[0] == 1.0
    assert float(found.mass_moved[0]) == pytest.approx(0.0)
    assert bool(found.jaccard[1].isnan())
    assert bool(found.mass_moved[1].isnan())
    with pytest.raises(ValueError, match="hold no tokens"):
        maps_of(x[:, :20], chunks=(20,)).mean_over(slice(5, 7))


def test_count_and_magnitude_by_band_by_loop():
    x = torch.rand(2, D, generator=torch.Generator().manual_seed(5)).double() + 1
    x[0, 1], x[1, 2], x[1, 9], x[0, 15] = 20.0, 30.0, 12.0, 50.0  # the last is in no band
    band = torch.tensor([0] * 4 + [1] * 4 + [2] * 4 + [-1] * 4)
    count, times = rules.standing_out(x, band)
    assert count.tolist() == [2, 0, 1]
    ordinary = [statistics.median(row.tolist()) for row in x]
    assert times[[0, 2]].tolist() == pytest.approx([max(20 / ordinary[0], 30 / ordinary[1]), 12 / ordinary[1]])
    assert bool(times[1].isnan())
    assert rules.standing_out(x, band, "iqr", 1e4)[0].tolist() == [0, 0, 0]


def test_late_bins_never_overlap_the_short_context():
    assert compared(slice(0, 4), 16) == (slice(0, 4), slice(12, 16))
    assert compared(slice(0, 10), 16) == (slice(0, 10), slice(10, 16))
    assert compared(slice(0, 16), 16) is None


def dealt(x: torch.Tensor, draws: int = 40, chunks: tuple[int, ...] = (9, 30, 11)):
    bins = PositionBins(L, 7)
    deal = outliers.Deal(bins, slice(0, 3), slice(4, 7), draws, seed=3)
    meter, start = outliers.ChannelMeter(len(x), D, bins, deal), 0
    for part in x.split(list(chunks), 1):
        meter.update(start, part)
        start += part.shape[1]
    return deal, meter.result()


def test_dealt_groups_are_of_the_sizes_of_early_and_late_and_hold_their_positions():
    x = signal()
    deal, found = dealt(x, draws=2)
    edges = PositionBins(L, 7).edges()
    near, far = set(range(edges[3])), set(range(edges[4], L))
    for draw in range(2):
        first = set(torch.nonzero(deal.first[draw])[:, 0].tolist())
        assert len(first) == len(near)
        assert first < near | far
        second = (near | far) - first
        for group, positions in enumerate((first, second)):
            for head in range(HEADS):
                part = x[head, sorted(positions)].double().abs().numpy().mean(0)
                assert found.dealt[group, draw, head].numpy() == pytest.approx(part, rel=1e-5)
    assert not torch.equal(deal.first[0], deal.first[1])
    again = dealt(x, draws=2, chunks=(50,))[1]
    assert torch.allclose(again.dealt, found.dealt, rtol=1e-6)


def test_the_null_is_about_one_where_outliers_move_and_where_they_do_not():
    """Positions dealt at random see the same channels, whatever position does to them; early and late need not."""
    moving = signal()[:KV] * 0.1 + 1
    moving[:, :25, 3] = 30.0
    moving[:, 25:, 9] = 30.0
    still = signal()[:KV] * 0.1 + 1
    still[:, :, 3] = 30.0
    for x, jaccard in ((moving, 0.0), (still, 1.0)):
        _, found = dealt(x)
        early, late = found.mean_over(slice(0, 3)), found.mean_over(slice(4, 7))
        assert rules.outlier_shift(early, late, "iqr", 10.0).jaccard.tolist() == [jaccard] * KV
        assert float(rules.outlier_shift(*found.dealt, "iqr", 10.0).jaccard.mean()) == 1.0


def test_the_null_shows_what_chance_alone_does_to_channels_near_the_limit():
    """Pure noise: early and late differ, and the null differs as much."""
    x = torch.randn(40, L, D, generator=torch.Generator().manual_seed(0))
    bins = PositionBins(L, 7)
    meter = outliers.ChannelMeter(40, D, bins, outliers.Deal(bins, slice(0, 3), slice(4, 7), 40, seed=0))
    meter.update(0, x)
    found = meter.result()
    real = rules.outlier_shift(found.mean_over(slice(0, 3)), found.mean_over(slice(4, 7)))
    null = rules.outlier_shift(*found.dealt)
    share = float(real.both.sum() / real.either.sum())
    by_chance = null.both.sum(-1) / null.either.sum(-1)
    assert share < 0.5
    assert float(by_chance.min()) <= share <= float(by_chance.max())


@pytest.mark.parametrize(("rule", "parameter"), [("iqr", 1.5), ("mad", 3.5), ("percentile", 0.9)])
def test_chance_counts_are_those_of_the_rows_of_a_normal_matrix_and_of_channels_that_are_alike(rule, parameter):
    """Mean |w| of 64 rows of 300 weights, drawn anew with numpy; the rule written out."""
    draw = np.random.default_rng(5)
    counts = []
    for _ in range(600):
        m = np.abs(draw.standard_normal((64, 300)) * 0.02).mean(1)
        q1, q2, q3 = np.quantile(m, [0.25, 0.5, 0.75])
        far = {
            "iqr": q3 + parameter * (q3 - q1),
            "percentile": np.quantile(m, min(parameter, 1.0)),
            "mad": q2 + parameter / 0.6745 * np.median(np.abs(m - q2)),
        }[rule]
        counts.append((m > far).sum())
    mean, spread = rules.chance_count(64, rule, parameter)
    assert mean == pytest.approx(np.mean(counts), abs=4 * np.std(counts) / 600**0.5 + 0.03)
    assert spread == pytest.approx(np.std(counts), rel=0.3, abs=1e-9)
    if rule == "percentile":
        assert (mean, spread) == (7.0, 0.0)


@pytest.mark.parametrize("channels", [64, 128])
def test_chance_counts_are_known_as_well_as_they_say(channels):
    """Held against as many draws of numpy's own, in float64 and of another generator; the rules written out."""
    draw, draws = np.random.Generator(np.random.MT19937(11)), 2**22 // channels
    x = draw.standard_normal((draws, channels))
    q1, q2, q3 = np.quantile(x, [0.25, 0.5, 0.75], axis=1)
    mad = np.median(np.abs(x - q2[:, None]), 1)
    for (rule, parameter), limit in {
        ("iqr", 1.5): q3 + 1.5 * (q3 - q1),
        ("iqr", 3.0): q3 + 3 * (q3 - q1),
        ("mad", 3.5): q2 + 3.5 / 0.6745 * mad,
        ("mad", 4.2): q2 + 4.2 / 0.6745 * mad,  # not among those offered
    }.items():
        counts = (x > limit[:, None]).sum(1)
        mean, spread = rules.chance_count(channels, rule, parameter)
        error, theirs = spread / (rules.CHANCE_NUMBERS // channels) ** 0.5, counts.std() / draws**0.5
        assert mean == pytest.approx(counts.mean(), abs=3.5 * (error**2 + theirs**2) ** 0.5)
        assert spread == pytest.approx(counts.std(), rel=0.15 if mean > 0.01 else 0.4)
        if (rule, parameter) == ("iqr", 1.5):
            assert error < 0.006 * mean
        if parameter == 3.0:
            assert 0.001 < mean < 0.003
            assert error < 0.0004


def test_the_peak_of_normal_values_is_the_median_of_the_largest_of_as_many():
    """Two heads of 4 channels of 50 tokens in two uneven bins, drawn 2,000 times by numpy at the head's RMS."""
    x = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    x[1, :, 2] *= 30  # an outlier channel: the head's RMS is larger, and its peak is far beyond it
    meter = outliers.ChannelMeter(2, 4, PositionBins(50, 3))
    meter.update(0, x)
    found, draw = meter.result().normal_peak(), np.random.default_rng(1)
    for head in range(2):
        rms = float(x[head].double().square().mean().sqrt())
        drawn = np.median(np.abs(draw.standard_normal((2000, 200))).max(1)) * rms
        assert float(found[head]) == pytest.approx(drawn, rel=0.02)
    peak = x.abs().amax((1, 2)) / found
    assert peak[0] < 1.3
    assert peak[1] > 1.5
