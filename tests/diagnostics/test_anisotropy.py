"""Anisotropy against a loop over pairs, and quantizers whose angular error is known."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from qroar_core.diagnostics.anisotropy.angle_null import Swapped
from qroar_core.diagnostics.anisotropy.measure import MIN_PAIRS, AnisotropyMeter
from qroar_core.diagnostics.anisotropy.observe import AnisotropyRecorder
from qroar_core.diagnostics.anisotropy.result import OTHER_LAYER, SAME_VECTOR, SCALED
from qroar_core.diagnostics.anisotropy.table import anisotropy_of
from qroar_core.diagnostics.measurement import Measurement
from qroar_core.maths.positions import PositionBins
from qroar_core.models.geometry import Geometry
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.steps import squared_step
from qroar_core.specs import DiagnosisSpec, QuantizerSpec

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
    for here in (slice(0, 100), slice(100, 300)):
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
    """A two-bit quantizer's error does see the angle; the errors of other heads' pairs, at the same angles, do not."""
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(2, 60_000, 8, generator=draw)
    x[..., 0] *= 6 * torch.rand(2, 60_000, generator=draw)  # an outlier channel, in some tokens
    spec = QuantizerSpec(2)
    square = squared_step(x, spec)
    band = torch.tensor([0, 1, 1, 1])
    meter = AnisotropyMeter(band, "half", 8, Swapped(band, 2, 0, 0, 3))
    meter.update(x, fake_quantize(x, spec), (square[..., :4] + square[..., 4:]) / 2)
    found = anisotropy_of([meter])
    assert found.largest > 1.5
    assert len(found.null.largest) == 3
    assert found.null.largest == pytest.approx([1.05] * 3, abs=0.08)
    assert found.null.typical == pytest.approx([1.04] * 3, abs=0.08)
    assert found.typical == pytest.approx(sum(found.ratio[0]) / 2)
    assert min(found.null.typical) >= 1
    assert len(set(found.null.largest)) == 3
    mean, largest = found.null_rows()
    assert (mean.measured, largest.measured) == (found.typical, found.largest)
    assert (largest.low, largest.high) == (min(found.null.largest), max(found.null.largest))
    for row in (mean, largest):
        assert row.low <= row.null <= row.high
    assert found.sample.sentence == "Counted on 60,000 tokens; the null is the mean of 3 draws (seed 0)."


def test_few_pairs_show_chance_in_the_null_too():
    """Noise alone, about 60 pairs an angle: worst over best is well above 1, and the null says so."""
    draw = torch.Generator().manual_seed(5)
    x = torch.cat([circle(30 * 16)[:, torch.randperm(30 * 16, generator=draw)] for _ in range(2)], 2)[..., [0, 2, 1, 3]]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(4)) / 12**0.5
    band = torch.zeros(2, dtype=torch.int64)
    meter = AnisotropyMeter(band, "half", 16, Swapped(band, 1, 0, 0, 1))
    meter.update(x, x + noise, unit_step(x))
    found = anisotropy_of([meter])
    assert found.largest > 1.25
    assert found.null.largest[0] == pytest.approx(found.largest, rel=0.2)


def test_what_repeats_in_the_text_repeats_in_the_null():
    """Twelve different vectors in 3,000 tokens, each with an error of its own that does not see the angle: worst over
    best is far above 1, and so is the null. Errors drawn anew for every token read near 1."""
    draw = torch.Generator().manual_seed(8)
    which = torch.randint(12, (3000,), generator=draw)
    x, noise = (torch.randn(1, 12, 16, generator=draw)[:, which] for _ in range(2))
    anew = torch.randn(x.shape, generator=draw)
    band, step = torch.zeros(8, dtype=torch.int64), torch.ones(1, 3000, 8)
    repeated, fresh = (AnisotropyMeter(band, "half", 8, Swapped(band, 1, 0, 0, 20)) for _ in range(2))
    repeated.update(x, x + noise, step)
    fresh.update(x, x + anew, step)
    found, other = anisotropy_of([repeated]), anisotropy_of([fresh])
    assert found.largest > 2
    assert min(found.null.largest) < found.largest < max(found.null.largest)
    assert max(other.null.largest) < 1.25


def answered(draw, seed, spread, quiet, sees):
    """Whether the figure says yes: three layers of 16 pairs in four heads, each pair with an error of its own size."""
    band, meters = torch.arange(16) // 4, []
    for layer in range(3):
        angle = torch.rand(4, 1, 16, generator=draw) * 1.3 + 0.1 + spread * torch.randn(4, 2000, 16, generator=draw)
        loud = torch.rand(4, 1, 16, generator=draw) * 2
        size = torch.where(torch.rand(4, 1, 16, generator=draw) < 0.3, quiet, loud)
        noise = torch.randn(4, 2000, 32, generator=draw) * size.repeat(1, 1, 2)
        if sees:
            noise *= torch.where(angle.cos().abs() < angle.sin().abs(), 2.0, 0.5).repeat(1, 1, 2)
        x = torch.cat([angle.cos(), angle.sin()], -1)
        meters.append(AnisotropyMeter(band, "half", 16, Swapped(band, 4, layer, seed, 3)))
        meters[-1].update(x, x + noise, unit_step(x))
    above, error = anisotropy_of(meters).above_null()
    return above > 2 * error


@pytest.mark.parametrize(("spread", "quiet"), [(0.1, 0.0), (0.1, 0.1), (3.0, 0.1)])
def test_a_pair_that_errs_more_at_the_few_angles_where_it_stands_is_not_taken_for_its_angle(spread, quiet):
    """Slow pairs stand within a few degrees each. An error drawn anew for each token, of a size that is the pair's and
    for some pairs 0, knows no angle and is not above its null; one that does is, where pairs turn through all angles.
    """
    draw = torch.Generator().manual_seed(0)
    assert sum(answered(draw, seed, spread, quiet, sees=False) for seed in range(6)) <= 1
    if spread > 1:
        assert all(answered(draw, seed, spread, quiet, sees=True) for seed in range(3))


@pytest.mark.parametrize("heads", [1, 2])
def test_where_every_partner_is_exact_the_null_shows_as_much_chance_as_rounding_at_random_does(heads):
    """The other pair of each head has no error: a flat null would read 1 though chance alone shows more."""
    band, shown, null = torch.zeros(2, dtype=torch.int64), [], []
    for seed in range(40):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(heads, 1600, 4, generator=draw)
        noise = torch.rand(x.shape, generator=draw) - 0.5
        noise[..., [1, 3]] = 0
        meter = AnisotropyMeter(band, "half", 16, Swapped(band, heads, 0, seed, 1))
        for here in (slice(0, 700), slice(700, 1600)):
            meter.update(x[:, here], (x + noise)[:, here], unit_step(x[:, here]))
        found = anisotropy_of([meter])
        assert (found.null.lone, found.null.pairs) == (heads, 2 * heads)
        # half of the pairs of each angle are exact: their errors are 0 in the null, too
        assert sum(found.null.error[0]) / 16 == pytest.approx(1 / 12, rel=0.15)
        shown.append(found.typical)
        null.append(found.null_typical)
    assert sum(shown) / 40 > 1.15
    assert sum(null) / 40 == pytest.approx(sum(shown) / 40, rel=0.03)


def test_a_partner_that_is_never_rounded_is_replaced_as_well():
    x = torch.randn(1, 3000, 4, generator=torch.Generator().manual_seed(1))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) - 0.5
    band, step = torch.zeros(2, dtype=torch.int64), unit_step(x).clone()
    step[..., 1] = 0
    meter = AnisotropyMeter(band, "half", 8, Swapped(band, 1, 0, 0, 2))
    meter.update(x, x + noise, step)
    found = anisotropy_of([meter])
    assert found.null.lone == 1
    assert all(1 < ratio < 1.5 for ratio in found.null.largest)
    assert found.null.largest[0] != found.null.largest[1]
    assert found.null.error[0] == pytest.approx([1 / 6] * 8, rel=0.2)


def test_every_pair_takes_the_error_of_another_one_of_its_band_in_another_head():
    band = torch.tensor([0, 1, 1, 1, 2, 2])
    swapped, again, other = (Swapped(band, 3, layer, 5, 4) for layer in (1, 1, 2))
    assert len(swapped.partners) == 4
    for partners, same in zip(swapped.partners, again.partners):
        assert torch.equal(partners, same)
        head, pair = partners.view(3, 6) // 6, partners.view(3, 6) % 6
        assert not (head == torch.arange(3)[:, None]).any()
        assert not (pair == torch.arange(6)).any()
        assert (band[pair[:, 1:]] == band[1:]).all()  # the first is alone in its band
        assert all(sorted(row.tolist()) == [1, 2, 3, 4, 5] for row in pair[:, 1:])
    assert not all(torch.equal(a, b) for a, b in zip(swapped.partners, other.partners))
    (alone,) = Swapped(band, 1, 1, 5, 1).partners
    assert not (alone == torch.arange(6)).any()
    assert Swapped(torch.zeros(1, dtype=torch.int64), 2, 0, 0, 3).partners == []


def test_the_null_by_a_loop_over_pairs():
    """Two heads of three pairs: each error beside the angle of the pair that takes it."""
    x = torch.randn(2, 500, 6, generator=torch.Generator().manual_seed(2))
    y, band = absmax_round(x), torch.zeros(3, dtype=torch.int64)
    swapped = Swapped(band, 2, 0, 0, 1)
    meter = AnisotropyMeter(band, "half", 4, swapped)
    step = pair_step(x, 3).clone()
    step[:, 490:] = 0  # not rounded
    meter.update(x, y, step)
    sums = [[] for _ in range(4)]

    def divided(h, t, p):
        return float(((y[h, t, [p, p + 3]] - x[h, t, [p, p + 3]]) ** 2).sum() / step[h, t, p])

    level = {(h, p): sum(divided(h, t, p) for t in range(490)) for h in range(2) for p in range(3)}
    for h, t, p in itertools.product(range(2), range(490), range(3)):
        g, o = divmod(int(swapped.partners[0][3 * h + p]), 3)
        at = int(math.atan2(abs(x[h, t, p + 3]), abs(x[h, t, p])) / (math.pi / 2) * 4)
        sums[at].append(divided(g, t, o) * level[h, p] / level[g, o])
    found = meter.nulls[0].result()
    assert found.count[0].tolist() == [len(e) for e in sums]
    assert found.error[0].tolist() == pytest.approx([sum(e) / len(e) for e in sums], rel=1e-4)


def test_one_pair_a_head_has_no_null_and_says_nothing_of_one():
    band, x = torch.zeros(1, dtype=torch.int64), circle(4000)
    meter = AnisotropyMeter(band, "half", 8, Swapped(band, 1, 0, 0, 1))
    meter.update(x, x.sign() / 2**0.5, unit_step(x))
    found = anisotropy_of([meter])
    assert (found.null, found.null_rows(), found.sample.error) == (None, [], "")


def test_without_a_step_the_null_is_as_large_as_the_vectors_error():
    x = torch.randn(2, 4000, 8, generator=torch.Generator().manual_seed(6))
    y = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(7)) * (1 + 9 * (x[..., :1] > 1))
    band = torch.tensor([0, 0, 1, 1])
    meter = AnisotropyMeter(band, "half", 4, Swapped(band, 2, 0, 0, 1))
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
        band = torch.tensor([0, 0, 1, 1])
        meter = AnisotropyMeter(band, "half", 4, Swapped(band, 1, 2, 7, 2))
        for start in range(0, 700, chunk):
            here = slice(start, start + chunk)
            meter.update(x[:, here], y[:, here], step[:, here])
        found.append(anisotropy_of([meter]))
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


def one_head(layers, x, y, step=None, chunk=40, null_draws=1, still=()):
    """The recorder on `layers` of one KV head, fed as a stream feeds it: chunk by chunk, each through all layers."""
    geometry = Geometry(
        family="llama",
        n_layers=layers,
        n_heads=1,
        n_kv_heads=1,
        head_dim=x.shape[-1],
        rotary_dim=x.shape[-1],
        pairing="half",
        theta=1e4,
        original_context=64,
        hidden_size=8,
        vocab_size=8,
        parameters=0,
        without_rope=still,
    )
    bins = PositionBins(x.shape[2], 1)
    spec = DiagnosisSpec(null_draws=null_draws)
    pairs = x.shape[-1] // 2
    recorder = AnisotropyRecorder(Measurement(geometry, ((0, pairs - 1),), x.shape[2], bins, (), 1, {}, spec))
    for start in range(0, x.shape[2], chunk):
        here = slice(start, start + chunk)
        for layer in range(layers):
            recorder.on_keys(
                Planted(
                    layer, start, x[layer, :, here], y[layer, :, here], None if step is None else step[layer, :, here]
                )
            )
    assert recorder.before == {}
    return recorder


@dataclass
class Planted:
    layer: int
    start: int
    k: torch.Tensor
    k_hat: torch.Tensor
    step: torch.Tensor | None
    axes = None


@pytest.mark.parametrize("chunk", [150, 40])
@pytest.mark.parametrize("still", [(), (1,)])
def test_with_one_head_errors_come_from_another_layer_by_loop(chunk, still):
    """Three layers: 0 and 1 take each other's, 2 takes 1's; where 1 does not turn, 0 and 2 take each other's."""
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(3, 1, 150, 6, generator=draw)
    y = x + torch.randn(x.shape, generator=draw)
    step = torch.rand(3, 1, 150, 3, generator=draw) + 0.1
    recorder = one_head(3, x, y, step, chunk, still=still)
    source = {0: 2, 2: 0} if still else {0: 1, 1: 0, 2: 1}

    def divided(layer, t, p):
        return float(((y[layer, 0, t, [p, p + 3]] - x[layer, 0, t, [p, p + 3]]) ** 2).sum() / step[layer, 0, t, p])

    level = {(i, p): sum(divided(i, t, p) for t in range(150)) for i in range(3) for p in range(3)}
    for layer, other in source.items():
        meter = recorder.meters[layer]
        (partner,) = meter.swapped.partners
        sums = [[] for _ in range(16)]
        for t, p in itertools.product(range(150), range(3)):
            o = int(partner[p])
            angle = math.atan2(abs(x[layer, 0, t, p + 3]), abs(x[layer, 0, t, p]))
            scaled = divided(other, t, o) * level[layer, p] / level[other, o]
            sums[int(angle / (math.pi / 2) * 16)].append(scaled)
        found = meter.nulls[0].result()
        assert found.count[0].tolist() == [len(e) for e in sums]
        known = [i for i, e in enumerate(sums) if e]
        assert [float(found.error[0][i]) for i in known] == pytest.approx(
            [sum(sums[i]) / len(sums[i]) for i in known], rel=1e-4
        )
    assert anisotropy_of(recorder.meters, still).null.control == OTHER_LAYER + SCALED


def test_with_one_head_the_null_is_flat_where_errors_see_the_angle_and_where_they_do_not():
    """Two pairs a vector, errors over the vector's own: what one pair's error gains by its angle the other loses, so
    the errors of the same vector, swapped, are a mirror of what is measured. Those of another layer are flat."""
    draw = torch.Generator().manual_seed(9)
    x = torch.randn(2, 1, 40_000, 4, generator=draw)
    noise = torch.randn(x.shape, generator=draw)
    on_axis = torch.ones_like(x)
    on_axis[..., [0, 2]] = torch.where((x[..., [2]].abs() > x[..., [0]].abs()), 3.0, 0.3)  # louder near one axis
    blind, seeing = (anisotropy_of(one_head(2, x, x + e, chunk=40_000).meters) for e in (noise, noise * on_axis))
    assert blind.over == seeing.over == "error"
    assert blind.largest < 1.25
    assert seeing.typical > 1.5
    for found in (blind, seeing):
        assert max(found.null.largest) < 1.25
    assert blind.above_null()[0] < 0.1 < seeing.above_null()[0]
    lone = anisotropy_of(one_head(1, x[:1], (x + noise * on_axis)[:1], chunk=40_000).meters)
    assert lone.null.control == SAME_VECTOR + SCALED
    assert lone.null_typical > 1.5  # as its caption says
