"""The null of tail inflation against a loop over every way to swap, on numpy's exact quantiles."""

from itertools import product

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.tail_inflation.measure import BandTails, swapped_ratios, swaps
from qroar_core.diagnostics.tail_inflation.table import tail_table
from qroar_core.maths.null_range import null_range
from qroar_core.maths.sketches import TopTail
from qroar_core.specs import DiagnosisSpec

EPS = 0.02


def heavy(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g) * (0.7 * torch.randn(*shape, generator=g)).exp()


def tail(x: torch.Tensor) -> TopTail:
    """x (windows, cells, n)."""
    windows, cells, n = x.shape
    sketch = TopTail((windows, cells), TopTail.kept_for(EPS, n, windows))
    for w in range(windows):
        sketch.update(x[w].abs(), torch.tensor(n), w)
    return sketch


def quantile(x: torch.Tensor) -> float:
    return float(np.quantile(x.abs().double().numpy().ravel(), 1 - EPS, method="inverted_cdf"))


@pytest.mark.parametrize("windows", [2, 4])
def test_every_way_to_swap_by_a_loop(windows):
    long, short = 2 * heavy(windows, 2, 150, seed=1), heavy(windows, 2, 150, seed=2)
    found = swapped_ratios(tail(long), tail(short), EPS)
    for cell in range(2):
        by_hand = []
        for stays in product((True, False), repeat=windows):
            a = torch.stack([long[w, cell] if keep else short[w, cell] for w, keep in enumerate(stays)])
            b = torch.stack([short[w, cell] if keep else long[w, cell] for w, keep in enumerate(stays)])
            by_hand.append(quantile(a) / quantile(b))
        assert sorted(found[:, cell].tolist()) == pytest.approx(sorted(by_hand), rel=1e-12)
        assert found[-1, cell] == pytest.approx(quantile(long[:, cell]) / quantile(short[:, cell]))  # nothing swapped


@pytest.mark.parametrize(("windows", "paired"), [(3, True), (8, True), (12, True), (4, False), (12, False)])
def test_both_sides_of_a_draw_share_out_all_windows(windows, paired):
    drawn = swaps(windows, paired, seed=5)
    assert len(drawn) == min(256, 2**windows) if paired else 256
    assert bool((drawn + drawn.flip(0) == 1).all())  # what a row leaves is its mirror's
    assert set(drawn.sum(1).tolist()) == {float(windows)}
    if paired:  # a window gives one of its own sides, never both
        assert bool((drawn[:, :windows] + drawn[:, windows:] == 1).all())
        assert len({tuple(row) for row in drawn.tolist()}) > 0.9 * len(drawn)
    assert torch.equal(drawn, swaps(windows, paired, seed=5))


def test_the_null_reads_one_where_length_means_nothing_and_leaves_a_doubled_tail_outside():
    same, other = heavy(8, 200, 60, seed=3), heavy(8, 200, 60, seed=4)
    null = swapped_ratios(tail(same), tail(other), EPS)
    low, high = null_range(null)
    ratio = null[-1]
    inside = ((ratio >= low) & (ratio <= high)).double().mean()
    assert 0.9 <= float(inside) <= 1.0  # 95 %, with 200 cells to count on
    assert float(null.log().mean()) == pytest.approx(0.0, abs=1e-12)  # as often above as below
    # the largest of 200 cells is far above 1 by chance, and the null of the largest knows
    bounds = null_range(null.amax(1))
    assert ratio.max() > 1.15
    assert bounds[0] <= ratio.max() <= bounds[1]
    doubled = swapped_ratios(tail(2 * same), tail(other), EPS)
    assert float((doubled[-1] > null_range(doubled)[1]).double().mean()) > 0.9
    assert doubled[-1].max() > null_range(doubled.amax(1))[1]


@pytest.mark.parametrize(("windows", "can"), [(5, False), (6, True)])
def test_fewer_than_six_windows_leave_nothing_outside(windows, can):
    long, short = 100 + heavy(windows, 1, 100).abs(), heavy(windows, 1, 100, seed=1)
    drawn = swapped_ratios(tail(long), tail(short), EPS)
    assert bool((drawn[-1] > null_range(drawn)[1]).all()) is can


def test_sides_keep_their_values_side_by_side():
    a, b = heavy(2, 3, 40), heavy(2, 3, 40, seed=9)
    small, large = tail(a), TopTail((2, 3), 40)
    for w in range(2):
        large.update(b[w].abs(), torch.tensor(40), w)
    both = small.beside(large)
    top = both.quantile(1.0)
    assert top[:2].tolist() == a.abs().amax(2).double().tolist()
    assert top[2:].tolist() == b.abs().amax(2).double().tolist()
    with pytest.raises(ValueError, match="sides differ"):
        swapped_ratios(small, TopTail((3, 3), 4), EPS)


def test_the_table_keeps_the_largest_over_heads_and_cells():
    """Two layers, two heads, two bands; layer 1's long side is three times its short one in one cell."""
    spec = DiagnosisSpec(eps=EPS, paired_tokens=50, windows=6, seed=7)
    band = torch.tensor([0, 0, 1, 1])
    sides = []
    for seed, gain in ((0, 3.0), (1, 1.0)):
        x = heavy(2, 6, 2, 50, 4, seed=seed)  # (layers, windows, heads, tokens, channels)
        x[1, :, 1, :, 2:] *= gain
        meters = [BandTails(6, 2, band, TopTail.kept_for(EPS, 100, 6)) for _ in range(2)]
        for layer in range(2):
            for w in range(6):
                meters[layer].add(w, x[layer, w])
        sides.append(meters)
    table = tail_table(*sides, None, spec)
    drawn = torch.stack([swapped_ratios(a, b, EPS, seed=7) for a, b in zip(*sides)], 1)  # (64, layers, heads, bands)
    assert table.null.largest == pytest.approx(drawn.flatten(1).amax(1).tolist())
    assert table.largest == table.ratio[1][1][1] == pytest.approx(float(drawn[-1].max()))
    per_draw = drawn.amax(2).sort(0).values
    assert table.null.map_high == [pytest.approx(row) for row in per_draw[-2].tolist()]  # 1 of 64 left out above
    assert table.null.low == [[pytest.approx(row) for row in layer] for layer in drawn.sort(0).values[1].tolist()]
    assert (table.sample.tokens, table.sample.windows, table.sample.seed) == (300, 6, 7)
    assert "64 ways" in table.null.control
    assert table.ratio[1][1][1] > table.null.high[1][1][1]
