"""Outlier maps, rules, shifts and error shares against loops and numpy."""

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.outliers import measure as outliers
from qroar_core.errors import BadSpec
from qroar_core.maths.positions import PositionBins

HEADS, KV, D, L = 4, 2, 16, 50


def signal(seed: int = 0) -> torch.Tensor:
    return torch.randn(HEADS, L, D, generator=torch.Generator().manual_seed(seed))


def maps_of(
    x: torch.Tensor, kv: int = KV, bins: int = 7, chunks: tuple[int, ...] = (9, 30, 11)
) -> outliers.ChannelMaps:
    meter, start = outliers.ChannelMeter(kv, x.shape[-1], PositionBins(L, bins)), 0
    for part in x.split(list(chunks), 1):
        meter.update(start, part)
        start += part.shape[1]
    return meter.result()


def test_maps_are_the_plain_reductions_of_each_cell():
    x = signal()
    found = maps_of(x)
    for p in range(7):
        here = [m for m in range(L) if m * 7 // L == p]
        for kv in range(KV):
            part = x[2 * kv : 2 * kv + 2, here].reshape(-1, D).double().numpy()
            assert int(found.count[p]) == len(part)
            assert found.mean_abs[kv, :, p].numpy() == pytest.approx(np.abs(part).mean(0), rel=1e-6)
            assert found.rms[kv, :, p].numpy() == pytest.approx(np.sqrt((part**2).mean(0)), rel=1e-6)
            assert found.maximum[kv, :, p].numpy() == pytest.approx(np.abs(part).max(0), rel=1e-6)


def brute_limit(values: list[float], rule: str) -> float:
    if rule == "percentile":
        return float(np.percentile(values, 99))
    if rule == "iqr":
        q1, q3 = np.percentile(values, [25, 75])
        return float(q3 + 1.5 * (q3 - q1))
    median = np.median(values)
    return float(median + 3.5 * np.median(np.abs(np.array(values) - median)) / 0.6745)


@pytest.mark.parametrize("rule", ["iqr", "mad", "percentile"])
@pytest.mark.parametrize("n", [5, 16, 64])
def test_rules_match_numpy(rule, n):
    x = torch.rand(3, n, generator=torch.Generator().manual_seed(n)).double()
    x[1, 2] = 40.0
    found = outliers.outlier_limit(x, rule)
    assert found.tolist() == pytest.approx([brute_limit(row.tolist(), rule) for row in x])
    assert x[1, 2] > found[1]


def test_unknown_rule_lists_the_known():
    with pytest.raises(BadSpec, match="iqr, mad, percentile"):
        outliers.outlier_limit(torch.ones(4), "zscore")


@pytest.mark.parametrize("rule", ["iqr", "mad"])
def test_planted_outliers_are_found_where_they_are_and_their_move_is_measured(rule):
    """Head 0: channels 3 and 5 early, 5 and 9 late. Head 1: 3 early, none late."""
    x = signal()[:2]
    edge = 29  # bins 0..3 of 7 end at ceil(4 * 50 / 7) = 29
    x[0, :edge, [3, 5]] *= 30
    x[0, edge:, [5, 9]] *= 30
    x[1, :edge, 3] *= 30
    maps = maps_of(x)
    found = outliers.outlier_shift(maps, slice(0, 4), slice(4, 7), rule)
    sets = [[set(torch.nonzero(mask[h])[:, 0].tolist()) for h in range(KV)] for mask in (found.short, found.long)]
    assert sets == [[{3, 5}, {3}], [{5, 9}, set()]]
    assert found.jaccard.tolist() == pytest.approx([len({5}) / len({3, 5, 9}), 0.0])
    early, late = x[0, :edge].abs().double().mean(0), x[0, edge:].abs().double().mean(0)
    p = {c: float(early[c] / (early[3] + early[5])) for c in (3, 5)} | {9: 0.0}
    q = {c: float(late[c] / (late[5] + late[9])) for c in (5, 9)} | {3: 0.0}
    assert found.mass_moved.tolist() == pytest.approx([sum(abs(p[c] - q[c]) for c in p) / 2, 1.0])


def test_a_still_signal_moves_nothing():
    x = signal()[:2, :1].expand(-1, L, -1).clone()
    found = outliers.outlier_shift(maps_of(x), slice(0, 3), slice(4, 7))
    assert found.jaccard.tolist() == [1.0, 1.0]
    assert found.mass_moved.tolist() == pytest.approx([0.0, 0.0])
    with pytest.raises(ValueError, match="hold no tokens"):
        outliers.outlier_shift(maps_of(x[:, :20], chunks=(20,)), slice(0, 2), slice(5, 7))


def rounded(x: torch.Tensor, levels: int) -> torch.Tensor:
    step = x.abs().amax(-1, keepdim=True) / levels
    return (x / step).round() * step


def test_error_shares_by_loop():
    x = signal()[:KV]
    x[0, :, 2] = 25 * x[0, :, 2].sign()  # a steady outlier sits on the top level: no error of its own
    x[1, ::5, 7] *= 20
    variants = {"int8": rounded(x, 127), "int4": rounded(x, 7)}
    band = torch.tensor([0] * 4 + [1] * 8 + [-1] * 4)
    threshold = outliers.entry_threshold(x, KV)
    for kv in range(KV):
        assert float(threshold[kv]) == pytest.approx(brute_limit(x[kv].abs().flatten().tolist(), "iqr"), rel=1e-6)
    meter = outliers.OutlierErrorMeter(threshold, band, ("int8", "int4"))
    for cut in (slice(0, 13), slice(13, L)):
        meter.update(x[:, cut], {name: y[:, cut] for name, y in variants.items()})
    found = meter.result()
    for v, name in enumerate(found.variants):
        for kv in range(KV):
            for b in range(2):
                whole = carried = entries = seen = 0.0
                for t in range(L):
                    for c in range(D):
                        if band[c] == b:
                            e = float(variants[name][kv, t, c] - x[kv, t, c]) ** 2
                            far = abs(float(x[kv, t, c])) > float(threshold[kv])
                            whole, carried = whole + e, carried + e * far
                            entries, seen = entries + far, seen + 1
                assert float(found.error_share[v, kv, b]) == pytest.approx(carried / whole, rel=1e-4, abs=1e-9)
                assert float(found.entry_share[kv, b]) == pytest.approx(entries / seen)
    assert float(found.error_share[1, 0, 0]) < 0.01  # the steady outlier is exact and the rest pays for it
    assert float(found.entry_share[0, 0]) >= 0.25


def test_exact_quantizer_has_no_share_to_give():
    x = signal()[:KV]
    meter = outliers.OutlierErrorMeter(torch.ones(KV), torch.zeros(D).long(), ("none",))
    meter.update(x, {"none": x})
    assert bool(meter.result().error_share.isnan().all())
