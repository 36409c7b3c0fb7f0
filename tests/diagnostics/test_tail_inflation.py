"""Sketches and tail inflation against numpy's exact quantiles and a bootstrap written out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qroar_core.diagnostics.tail_inflation.measure import BandTails, tail_inflation
from qroar_core.maths.sketches import LogHistogram, TopTail

QUANTILES = [0.0, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0]


def heavy(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g) * (1.5 * torch.randn(*shape, generator=g)).exp()


def exact(x: torch.Tensor, q: float) -> float:
    return float(np.quantile(x.abs().double().numpy().ravel(), q, method="inverted_cdf"))


@pytest.mark.parametrize("sub_bits", [1, 5, 7])
def test_histogram_quantiles_stay_within_the_stated_bound(sub_bits):
    x = heavy(3, 4999)
    sketch = LogHistogram((3,), sub_bits=sub_bits, low=-24)
    for part in x.split(700, 1):
        sketch.update(part, torch.arange(3)[:, None])
    assert sketch.relative_bound == 2.0 ** -(sub_bits + 1)
    for q in QUANTILES[1:]:
        for cell, found in enumerate(sketch.quantile(q)):
            assert abs(float(found) / exact(x[cell], q) - 1) <= sketch.relative_bound


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-4000, 4000, width=32), min_size=1, max_size=40), st.sampled_from(QUANTILES))
def test_histogram_bound_on_any_values(values, q):
    x = torch.tensor(values)
    sketch = LogHistogram(())
    sketch.update(x, torch.zeros((), dtype=torch.int64))
    truth, found = exact(x, q), float(sketch.quantile(q))
    if truth < 2.0**sketch.low:
        assert found == 0.0
    else:
        assert abs(found - truth) <= sketch.relative_bound * truth


def test_histogram_edges_of_its_range():
    sketch = LogHistogram((1,), low=-2, high=2)
    assert math.isnan(sketch.quantile(0.5)[0])
    sketch.update(torch.tensor([0.0, 0.1, 1e9, 1.0]), torch.tensor([0, 0, 0, -1]))  # the last is dropped
    assert sketch.quantile(0.5)[0] == 0
    assert sketch.quantile(1.0)[0] == math.inf
    assert int(sketch.counts.sum()) == 3


def test_merged_histograms_equal_one_over_everything():
    x, whole, a, b = heavy(2, 600), LogHistogram((2,)), LogHistogram((2,)), LogHistogram((2,))
    cell = torch.arange(2)[:, None]
    whole.update(x, cell)
    a.update(x[:, :100], cell)
    b.update(x[:, 100:].double(), cell)
    a.merge(b)
    assert torch.equal(a.counts, whole.counts)
    with pytest.raises(ValueError, match="differ"):
        a.merge(LogHistogram((3,)))


def test_top_tail_is_exact_and_says_when_it_is_too_short():
    x = heavy(2, 5000, seed=4)
    tail = TopTail((2,), keep=TopTail.kept_for(0.01, 5000, 1))
    for part in x.abs().split(333, 1):
        tail.update(part, torch.tensor(part.shape[1]))
    for q in (0.99, 0.9987, 1.0):
        assert tail.quantile(q).tolist() == [exact(x[0], q), exact(x[1], q)]
    with pytest.raises(ValueError, match="only 51 are kept"):
        tail.quantile(0.9)


def by_hand_bootstrap(long: torch.Tensor, short: torch.Tensor, eps: float, draws: torch.Tensor) -> list[float]:
    """Ratio of exact quantiles for each row of drawn windows; long, short (windows, n)."""
    return [exact(long[row], 1 - eps) / exact(short[row], 1 - eps) for row in draws]


def filled(kind: str, x: torch.Tensor, eps: float) -> TopTail | LogHistogram:
    """x: (windows, cells, n)."""
    windows, cells, n = x.shape
    if kind == "tail":
        sketch = TopTail((windows, cells), TopTail.kept_for(eps, n, windows))
        for w in range(windows):
            sketch.update(x[w].abs(), torch.tensor(n), w)
        return sketch
    sketch = LogHistogram((windows, cells), sub_bits=8, low=-20)
    sketch.update(x, torch.arange(windows * cells).reshape(windows, cells, 1))
    return sketch


@pytest.mark.parametrize(("kind", "tolerance"), [("tail", 1e-12), ("histogram", 0.005)])
def test_tail_inflation_and_its_interval_by_hand(kind, tolerance):
    eps, windows = 0.01, 5
    long, short = 2 * heavy(windows, 3, 400, seed=1), heavy(windows, 3, 400, seed=2)
    found = tail_inflation(filled(kind, long, eps), filled(kind, short, eps), eps, resamples=80, seed=9)
    draws = torch.randint(windows, (80, windows), generator=torch.Generator().manual_seed(9))
    for cell in range(3):
        a, b = long[:, cell], short[:, cell]
        assert float(found.ratio[cell]) == pytest.approx(exact(a, 1 - eps) / exact(b, 1 - eps), rel=tolerance)
        ratios = by_hand_bootstrap(a, b, eps, draws)
        assert float(found.low[cell]) == pytest.approx(np.quantile(ratios, 0.025), rel=tolerance)
        assert float(found.high[cell]) == pytest.approx(np.quantile(ratios, 0.975), rel=tolerance)
        assert found.low[cell] < found.ratio[cell] < found.high[cell]


@pytest.mark.parametrize("kind", ["tail", "histogram"])
def test_paired_inflation_of_equal_sides_is_exactly_one(kind):
    x = heavy(4, 2, 300)
    x[:, 1] = 0  # an empty tail is not inflated either
    found = tail_inflation(filled(kind, x, 1e-2), filled(kind, x, 1e-2), 1e-2, resamples=50)
    for value in (found.ratio, found.low, found.high):
        assert value.tolist() == [1.0, 1.0]
    unpaired = tail_inflation(filled(kind, x, 1e-2), filled(kind, x, 1e-2), 1e-2, resamples=50, paired=False)
    assert unpaired.ratio.tolist() == [1.0, 1.0]
    assert unpaired.low[0] < 1 < unpaired.high[0]


def test_sides_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="cells differ"):
        tail_inflation(TopTail((2, 3), 4), TopTail((3, 3), 4), 1e-3)
    assert tail_inflation(
        filled("tail", heavy(2, 1, 50), 0.1), filled("tail", heavy(3, 1, 50), 0.1), 0.1, paired=False
    ).ratio.shape == (1,)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_band_tails_split_heads_and_bands_as_a_loop_does(kv_heads):
    """4 heads, unequal bands, one channel of no band; a planted outlier shows in its own cell only."""
    band_of_channel = torch.tensor([0, 1, 1, -1, 0, 1])
    x = heavy(2, 4, 50, 6, seed=5)  # (windows, heads, tokens, head_dim)
    x[1, 3, 7, 2] = 1e4
    x[..., 3] = 1e6  # belongs nowhere
    tails = BandTails(2, kv_heads, band_of_channel, keep=1000)
    for w in (0, 1):
        tails.add(w, x[w, :, :20])
        tails.add(w, x[w, :, 20:])
    found = tails.quantile(0.97, torch.tensor([[1, 1], [0, 2]]))
    top = tails.quantile(1.0)
    for kv in range(kv_heads):
        heads = x[:, kv * 4 // kv_heads : (kv + 1) * 4 // kv_heads]
        for b in range(2):
            values = heads[..., band_of_channel == b]
            assert float(found[0, kv, b]) == exact(values, 0.97)
            assert float(found[1, kv, b]) == exact(values[1], 0.97)
            assert float(top[1, kv, b]) == float(values[1].abs().max())
    assert float(top.max()) == 1e4
