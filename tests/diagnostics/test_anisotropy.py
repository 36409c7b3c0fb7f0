"""Anisotropy against a loop over pairs, and quantizers whose angular error is known."""

import itertools
import math

import pytest
import torch

from qroar_core.diagnostics.anisotropy.measure import MIN_PAIRS, AnisotropyMeter, blind_energies, worst_over_best
from qroar_core.diagnostics.anisotropy.table import anisotropy_of
from qroar_core.maths.quantize import fake_quantize
from qroar_core.maths.steps import squared_step
from qroar_core.specs import QuantizerSpec

PAIRING = {"half": [(0, 2), (1, 3)], "interleaved": [(0, 1), (2, 3)]}


def absmax_round(x: torch.Tensor, levels: int = 7) -> torch.Tensor:
    step = x.abs().amax(-1, keepdim=True) / levels
    return (x / step).round() * step


def pair_step(x: torch.Tensor, pairs: int, levels: int = 7) -> torch.Tensor:
    return (x.abs().amax(-1, keepdim=True) / levels).square().expand(*x.shape[:-1], pairs)


@pytest.mark.parametrize("by", ["step", "error"])
@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_energies_by_loop_over_pairs(pairing, by):
    x = torch.randn(2, 300, 5, generator=torch.Generator().manual_seed(0))  # channel 4 is not rotated
    y, angles = absmax_round(x), 6
    step = pair_step(x, 2) if by == "step" else None
    keep = torch.arange(300) % 3 > 0
    meter = AnisotropyMeter(torch.tensor([0, 1]), pairing, angles)
    for start, stop in ((0, 100), (100, 300)):
        here = slice(start, stop)
        meter.update(x[:, here], y[:, here], None if step is None else step[:, here], keep[here])
    found = meter.result()
    sums = [[[] for _ in range(angles)] for _ in range(2)]
    for h, t in itertools.product(range(2), range(300)):
        if not keep[t]:
            continue
        z, w = x[h, t].double().tolist(), y[h, t].double().tolist()
        off = [sum((w[c] - z[c]) ** 2 for c in pair) for pair in PAIRING[pairing]]
        size = (max(abs(v) for v in z) / 7) ** 2 if by == "step" else sum(off) / 4
        for band, (a, b) in enumerate(PAIRING[pairing]):
            at = int(math.atan2(abs(z[b]), abs(z[a])) / (math.pi / 2) * angles)
            sums[band][at].append(off[band] / size)
    for band in range(2):
        mean = [sum(e) / len(e) for e in sums[band]]
        assert found.count[band].tolist() == [len(e) for e in sums[band]]
        assert found.error[band].tolist() == pytest.approx(mean, rel=1e-4)
        assert float(found.ratio[band]) == pytest.approx(max(mean) / min(mean), rel=1e-4)
    assert found.angle.tolist() == pytest.approx([(j + 0.5) * math.pi / 12 for j in range(6)])
    assert meter.tokens == 200
    assert anisotropy_of([meter]).over == by


def circle(n: int = 40_000) -> torch.Tensor:
    angle = torch.arange(n) * (2 * math.pi / n)
    return torch.stack([angle.cos(), angle.sin()], -1)[None]  # (1, n, 2): one pair a token, constant norm


def one_band(angles: int = 8, **options) -> AnisotropyMeter:
    return AnisotropyMeter(torch.zeros(1).long(), "half", angles, **options)


def unit_step(x: torch.Tensor) -> torch.Tensor:
    return torch.ones(*x.shape[:-1], x.shape[-1] // 2)


def test_sign_quantizer_is_worst_on_the_axes_and_exact_on_the_diagonal():
    """Rounding to +-absmax/sqrt(2): error 2 - 2 cos(angle - pi/4) on the unit circle, by trigonometry."""
    x = circle()
    meter = one_band()
    meter.update(x, x.sign() / 2**0.5, unit_step(x))
    found = meter.result()
    edges = [j * math.pi / 16 - math.pi / 4 for j in range(9)]
    expected = [2 - 2 * (math.sin(v) - math.sin(u)) / (v - u) for u, v in itertools.pairwise(edges)]
    assert found.error[0].tolist() == pytest.approx(expected, rel=2e-3)
    assert float(found.ratio) > 20


def test_an_error_on_the_second_axis_is_found_there_in_every_quadrant():
    """Half the pairs stand near the second axis; folding modulo pi/2 would move quadrants 2 and 4 to the first."""
    x = circle(4000)
    near_second = x[..., 1].abs() > x[..., 0].abs()
    meter = one_band(angles=2)
    meter.update(x, torch.stack([x[..., 0] + near_second, x[..., 1]], -1), unit_step(x))
    assert meter.result().error[0].tolist() == pytest.approx([0.0, 1.0], abs=0.01)


def loud_on_one_axis(tokens: int = 60_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs whose length follows their angle, in vectors whose step follows the longest pair."""
    x = torch.randn(1, tokens, 8, generator=torch.Generator().manual_seed(3))
    x[..., 0] *= torch.linspace(0.2, 6, tokens)  # an outlier channel, sometimes
    return x, pair_step(x, 4)


def test_noise_that_does_not_see_the_angle_reads_one_although_steps_differ_by_token():
    """Without the division by the step the same noise reads far from one: steps are large where angles are small."""
    x, step = loud_on_one_axis()
    noise = (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 0.5) * step.sqrt().repeat(1, 1, 2)
    band = torch.tensor([0, 1, 1, 1])
    divided, bare = (AnisotropyMeter(band, "half", 8) for _ in range(2))
    divided.update(x, x + noise, step)
    bare.update(x, x + noise, torch.ones_like(step))
    assert divided.result().ratio.tolist() == pytest.approx([1.0, 1.0], abs=0.1)
    assert divided.result().error[0].tolist() == pytest.approx([1 / 6] * 8, rel=0.06)
    assert float(bare.result().ratio[0]) > 2


def test_the_null_reads_one_where_the_quantizer_does_not():
    """A two-bit quantizer's error does see the angle; its null, at the same pairs and steps, does not."""
    x, _ = loud_on_one_axis()
    spec = QuantizerSpec(2)
    square = squared_step(x, spec)
    meter = AnisotropyMeter(torch.tensor([0, 1, 1, 1]), "half", 8)
    meter.update(x, fake_quantize(x, spec), (square[..., :4] + square[..., 4:]) / 2)
    found = anisotropy_of([meter])
    assert found.largest > 1.5
    assert len(found.null.largest) == 1000
    assert found.null_largest == pytest.approx(1.05, abs=0.04)
    assert min(found.null.largest) >= 1
    assert found.null.error[1] == pytest.approx([1 / 6] * 8, rel=0.005)
    for low, middle, high in zip(found.null.error_low[0], found.null.error[0], found.null.error_high[0], strict=True):
        assert 0.95 * middle < low < middle < high < 1.05 * middle
    (row,) = found.null_rows()
    assert row.measured == found.largest
    assert (row.low, row.high) == found.null_range
    assert 1 < row.low < row.null < row.high < 1.15
    assert found.sample.sentence == "Counted on 60,000 tokens; the null was drawn 1,000 times (seed 0)."


def test_the_null_is_what_normal_noise_drawn_for_each_pair_shows():
    """Against noise added to pairs of given numbers at each angle and booked one by one."""
    counts, maker = [40, 300, 90, 33], torch.Generator().manual_seed(3)
    expected = []
    for _ in range(400):
        energy = [float(torch.randn(n, 2, generator=maker).square().sum(1).mean()) / 12 for n in counts]
        expected.append(max(energy) / min(energy))
    drawn = worst_over_best(blind_energies(torch.tensor([counts]), 1 / 6, 4000, 0, 0), torch.tensor([counts]))[:, 0]
    for share in (0.1, 0.5, 0.9):
        there = sorted(expected)[int(share * 400)]
        assert float(drawn.quantile(share)) == pytest.approx(there, rel=0.04)


def test_noise_lies_inside_the_range_of_the_null_and_a_coarse_quantizer_outside():
    inside = 0
    for seed in range(40):
        x = torch.randn(1, 3000, 2, generator=torch.Generator().manual_seed(seed))
        meter = one_band(8)
        meter.update(x, x + torch.randn(x.shape, generator=torch.Generator().manual_seed(99 + seed)), unit_step(x))
        low, high = anisotropy_of([meter], seed=seed).null_range
        inside += low <= anisotropy_of([meter]).largest <= high
    assert inside >= 34  # 38 expected
    meter = one_band(8)
    meter.update(x, x.sign(), unit_step(x))
    found = anisotropy_of([meter])
    assert found.largest > found.null_range[1]


def test_few_pairs_show_chance_in_the_null_too():
    """Noise alone, about 60 pairs an angle: worst over best is well above 1, and the null says so."""
    x = circle(60 * 16)[:, torch.randperm(60 * 16, generator=torch.Generator().manual_seed(5))]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(4)) / 12**0.5
    meter = one_band(16)
    meter.update(x, x + noise, unit_step(x))
    found = anisotropy_of([meter])
    assert found.largest > 1.25
    assert found.null_largest == pytest.approx(found.largest, rel=0.2)


def test_without_a_step_the_null_is_as_large_as_the_vectors_error():
    x = torch.randn(2, 4000, 8, generator=torch.Generator().manual_seed(6))
    y = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(7)) * (1 + 9 * (x[..., :1] > 1))
    meter = AnisotropyMeter(torch.tensor([0, 0, 1, 1]), "half", 4)
    meter.update(x, y)
    found = anisotropy_of([meter])
    assert found.over == "error"
    for errors in (*found.error, *found.null.error):
        assert errors == pytest.approx([2.0] * 4, rel=0.08)  # two coordinates, each as large as the vector's mean


def test_chunks_change_nothing_and_unrounded_pairs_do_not_count():
    x, step = loud_on_one_axis(700)
    step = step.clone()
    step[:, 600:] = 0  # an open group of tokens
    y = absmax_round(x)
    y[:, 600:] = x[:, 600:]
    found = []
    for chunk in (700, 64, 1):
        meter = AnisotropyMeter(torch.tensor([0, 0, 1, 1]), "half", 4)
        for start in range(0, 700, chunk):
            here = slice(start, start + chunk)
            meter.update(x[:, here], y[:, here], step[:, here])
        found.append(anisotropy_of([meter], seed=7, layers=[2]))
        assert int(meter.result().count.sum()) == 600 * 4
    for other in found[1:]:
        for band in range(2):
            assert other.error[band] == pytest.approx(found[0].error[band], rel=1e-5)
            assert other.null.error[band] == pytest.approx(found[0].null.error[band], rel=1e-5)
        assert other.null.largest == pytest.approx(found[0].null.largest, rel=1e-5)


def test_thin_angles_are_left_out_and_none_is_nan():
    meter = one_band(4)
    assert math.isnan(meter.result().ratio)
    x = torch.tensor([1.0, 0.1]).expand(1, MIN_PAIRS, 2)
    meter.update(x, x + 0.1, unit_step(x))
    wild = torch.tensor([[[1.0, 0.9]]])  # one wild pair elsewhere
    meter.update(wild, torch.tensor([[[9.0, 0.9]]]), unit_step(wild))
    assert float(meter.result().ratio) == 1.0
    with pytest.raises(ValueError, match="angles"):
        AnisotropyMeter(torch.zeros(1).long(), "half", 1)
