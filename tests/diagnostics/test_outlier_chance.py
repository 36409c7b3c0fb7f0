"""Nulls of maxima against numpy draws of the very maximum, and a model of nothing but normal numbers inside them."""

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.outliers.entries import EntryMeter
from qroar_core.diagnostics.outliers.figure_rules import error_by_channel
from qroar_core.diagnostics.outliers.measure import ChannelMeter
from qroar_core.diagnostics.outliers.result_chance import largest_even, largest_normal, largest_row
from qroar_core.diagnostics.outliers.result_matrices import MatrixMap
from qroar_core.diagnostics.outliers.result_uneven import OF_INPUTS, uneven_rows
from qroar_core.diagnostics.outliers.weights import matrices_of
from qroar_core.maths.positions import PositionBins
from qroar_core.specs import WeightQuantSpec
from tests.helpers import planted

D = planted.diagnosis()


def close(found, drawn, rel):
    ends = (float(np.quantile(drawn, p)) for p in (0.5, 0.025, 0.975))
    assert (found.median, found.low, found.high) == pytest.approx(tuple(ends), rel=rel)


def rows_of(draw, *shape):
    """Mean |w| of rows of normal weights (..., head, channel, input)."""
    return np.abs(draw.standard_normal(shape, dtype=np.float32)).mean(-1)


def over_median(rows):
    return (rows / np.median(rows, -1, keepdims=True)).max((-1, -2))


@pytest.mark.parametrize(("heads", "channels", "inputs"), [(1, 16, 64), (6, 16, 64), (24, 32, 96)])
def test_the_largest_row_over_its_heads_median(heads, channels, inputs):
    draw = np.random.default_rng(0)
    drawn = [over_median(rows_of(draw, heads, channels, inputs)) for _ in range(1500)]
    close(largest_row(heads, channels, inputs), drawn, rel=0.012)


@pytest.mark.parametrize("values", [60, 3000])
def test_the_largest_normal_value_of_heads_of_unlike_size(values):
    draw, rms = np.random.default_rng(1), np.array([0.5, 1.0, 1.0, 1.2])
    drawn = [(np.abs(draw.standard_normal((4, values))).max(-1) * rms).max() for _ in range(1500)]
    close(largest_normal([*rms, 0.0], values), drawn, rel=0.025)
    assert largest_normal([0.0], values) is None


def test_the_largest_of_numbers_around_one():
    draw, spreads = np.random.default_rng(2), np.array([0.1, 0.02, 0.3])
    drawn = [(1 + draw.standard_normal((3, 64)) * spreads[:, None]).max() for _ in range(1500)]
    close(largest_even([*spreads, 0.0], 64), drawn, rel=0.02)
    assert largest_even([0.0], 64) is None


def test_a_model_of_normal_weights_lies_in_the_null_as_often_as_its_range_says():
    """Four layers of four heads; the loudest layer is held against the loudest of as many."""
    draw, inside, above = np.random.default_rng(3), 0, 0
    for _ in range(60):
        rows = rows_of(draw, 4, 4, 32, 64)
        kept = MatrixMap(rows=rows.tolist(), columns=[[1.0] * 64] * 4, error_by_channel={})
        outliers = D.outliers.model_copy(update={"matrix_maps": {"W_K": kept}, "matrices": {}, "by_chance": [0.1, 0.1]})
        (row,) = [r for r in outliers.null_rows() if r.quantity.startswith("largest row of W_K")]
        assert row.measured == pytest.approx(over_median(rows).max())
        inside, above = inside + (row.low <= row.measured <= row.high), above + (row.measured > row.null)
    assert inside >= 52
    assert 15 <= above <= 45  # the median: not above it always, as against a single layer's


def test_a_cache_of_normal_values_lies_in_the_null_as_often_as_its_range_says():
    draw, inside, above, bins = torch.Generator().manual_seed(4), 0, 0, PositionBins(50, 3)
    for _ in range(60):
        maps, nulls = [], []
        for _layer in range(5):
            meter = ChannelMeter(2, 8, bins)
            meter.update(0, torch.randn(2, 100, 8, generator=draw) * torch.tensor([1.0, 3.0])[:, None, None])
            found = meter.result()
            assert found.values == 100 * 8
            maps.append(found.maximum.tolist())
            nulls.append(found.normal_peak().tolist())
        update = {"maps": {"k/post": maps}, "peak_null": {"k/post": nulls}, "peak_values": {"k/post": found.values}}
        outliers = D.outliers.model_copy(update=update)
        (row,) = [r for r in outliers.null_rows() if r.quantity.startswith("largest |x| of K after RoPE")]
        inside, above = inside + (row.low <= row.measured <= row.high), above + (row.measured > row.null)
        chance = outliers.peak_by_chance("k/post", range(5))
        assert chance.low < np.max(maps) * 1.6
        assert chance.median == pytest.approx(3 * row.null * 3.2272, rel=0.2)
    assert inside >= 52
    assert 15 <= above <= 45


def test_a_channels_share_of_dealt_errors_is_as_far_from_even_as_chance_says():
    """Rounding errors of vectors with unlike steps: dealt anew by numpy, the largest channel of three layers."""
    draw = np.random.default_rng(5)
    x = torch.zeros(2, 40, 16)
    meters, squares = [], []
    for _layer in range(3):
        error = draw.uniform(-1, 1, (2, 40, 16)) * draw.uniform(0.1, 2, (2, 40, 1))
        meter = EntryMeter(2, torch.zeros(16).long(), ("int4",))
        for here in (slice(0, 13), slice(13, 40)):
            meter.update(x[:, here], {"int4": torch.from_numpy(error[:, here]).float()})
        meters.append(meter.result())
        squares.append(error.astype(np.float32).astype(np.float64) ** 2)
    dealt = np.stack(squares)  # (layers, heads, tokens, channels)
    shares = [draw.permuted(dealt, axis=-1).sum((1, 2)) for _ in range(2000)]
    times = np.stack([s / s.mean(-1, keepdims=True) for s in shares])  # (draws, layers, channels)
    spreads = [m.spread_by_chance(0) for m in meters]
    assert spreads == pytest.approx(times.std((0, 2)).tolist(), rel=0.03)
    close(largest_even(spreads, 16), times.max((1, 2)), rel=0.08)
    exact = EntryMeter(2, torch.zeros(16).long(), ("int4",))
    exact.update(x, {"int4": x})
    assert np.isnan(exact.result().spread_by_chance(0))


def test_a_weights_row_of_dealt_errors_is_as_far_from_even_as_chance_says(tiny):
    """W_K of normal weights rounded per tensor: every row's step is the same, so no channel is beyond chance."""
    matrix = matrices_of(tiny(seed=1), None, WeightQuantSpec(4))["W_K"]
    kept = matrix.map()
    rows = {r.quantity: r for r in uneven_rows("the error of W_K", kept.error_by_channel, kept.error_spread, OF_INPUTS)}
    assert len(rows) == len(kept.error_by_channel)
    row = next(r for q, r in rows.items() if q.startswith("int8 per tensor"))
    share = np.array(kept.error_by_channel["int8 per tensor"])
    assert row.measured == pytest.approx(share.max() * share.shape[1])
    assert 1 < row.low < row.null < row.high < 2
    assert row.low / 1.1 <= row.measured <= row.high * 1.1


def test_titles_of_channel_shares_give_the_largest_by_chance_where_the_file_knows_it():
    shares = {"int4": [[0.125] * 8, [0.3, *[0.1] * 7]]}
    known = D.outliers.model_copy(update={"error_by_channel": shares, "error_spread": {"int4": [0.02, 0.05]}})
    older = D.outliers.model_copy(update={"error_by_channel": shares})
    chance = largest_even([0.02, 0.05], 8)
    for outliers, said in ((known, f" ({chance} by chance)"), (older, "")):
        picture = error_by_channel(D.model_copy(update={"outliers": outliers}))
        assert picture.title == f"One channel of K carries up to 2.4 times its even share of the int4 error{said}"
        asked = "share of K's error on one channel over an even one"
        rows = [r for r in outliers.null_rows() if asked in r.quantity]
        assert [(r.measured, r.null) for r in rows] == ([(pytest.approx(2.4), chance.median)] if said else [])
