"""Rounding of coordinates and lengths against float64 loops and planted cases."""

import math

import pytest
import torch

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.diagnostics.rounding.measure import RoundingMeter
from qroar_core.diagnostics.rounding.table import roundings_of
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.steps import ends_of
from qroar_core.specs import QuantizerSpec

BAND = torch.tensor([0, 1, 1, 0, 1, 1, -1])  # half pairing of three pairs, channel 6 is not rotated
COARSE = QuantizerSpec(3, scale="tensor", static_scale=0.6)  # levels -1.8 .. 1.8: clips


def keys(heads=4, tokens=50, seed=0):
    x = torch.randn(heads, tokens, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[0, 3] = 0.0
    return x


def measured(x, y, ends=None, chunk=17, kv_heads=2, draws=1, keep=None):
    meter = RoundingMeter(kv_heads, BAND, "half", 1, AngleBlind(len(x), 3, 0, draws) if draws else None)
    for start in range(0, x.shape[1], chunk):
        here = slice(start, start + chunk)
        part = None if ends is None else type(ends)(*(e[:, here] for e in ends))
        meter.update(start, x[:, here], y[:, here], part, None if keep is None else keep[here])
    return meter


@pytest.mark.parametrize("kept", [False, True])
def test_every_number_by_loops_in_float64(kept):
    x = keys()
    y = fake_quantize(x, COARSE)
    keep = torch.arange(50) % 4 > 0 if kept else None
    found = roundings_of([measured(x, y, ends_of(x, COARSE), keep=keep)], []).k
    times = [t for t in range(50) if keep is None or keep[t]]
    for kv in range(2):
        vectors = [(x[h, t].tolist(), y[h, t].tolist()) for h in (2 * kv, 2 * kv + 1) for t in times]
        off = [abs(b - a) for v, w in vectors for a, b in zip(v, w)]
        assert found.largest[0][kv] == pytest.approx(max(off), rel=1e-5)
        assert found.rms[0][kv] == pytest.approx(math.sqrt(sum(e * e for e in off) / len(off)), rel=1e-5)
        to_value = sorted(abs(b - a) / abs(a) for v, w in vectors for a, b in zip(v, w) if a)
        rank = math.ceil(0.99 * len(to_value) - 1e-6)
        assert found.relative_to_value[0][kv] == pytest.approx(to_value[rank - 1], rel=2e-3)
        to_vector = [max(abs(b - a) for a, b in zip(v, w)) / max(map(abs, v)) for v, w in vectors if any(v)]
        assert found.relative_to_vector[0][kv] == pytest.approx(max(to_vector), rel=1e-5)
        stretch = [math.hypot(*w) / math.hypot(*v) - 1 for v, w in vectors if any(v)]
        assert found.norm_mean[0][kv] == pytest.approx(sum(stretch) / len(stretch), rel=1e-4)
        assert found.norm_rms[0][kv] == pytest.approx(math.sqrt(sum(s * s for s in stretch) / len(stretch)), rel=1e-5)
        values = [a for v, _ in vectors for a in v]
        nonzero = [a for a in values if a]
        assert found.zeroed[0][kv] == pytest.approx(sum(abs(a) < 0.3 for a in nonzero) / len(nonzero))
        assert found.clipped[0][kv] == pytest.approx(sum(abs(a) > 2.1 for a in values) / len(values))
        assert found.clipped[0][kv] > 0
    for band in range(2):
        off = (y - x).abs()[:, times][..., band == BAND]
        assert found.band_largest[0][band] == pytest.approx(float(off.max()), rel=1e-5)
        assert found.band_rms[0][band] == pytest.approx(float(off.square().mean().sqrt()), rel=1e-5)
    rest = (y - x).abs()[:, times, 6]
    assert found.rest_largest[0] == pytest.approx(float(rest.max()), rel=1e-5)
    assert found.rest_rms[0] == pytest.approx(float(rest.square().mean().sqrt()), rel=1e-5)


def test_a_stretch_is_told_from_its_null():
    x = keys(tokens=400)
    found = roundings_of([measured(x, 1.05 * x, draws=3)], [])
    for head in range(2):
        assert found.k.norm_mean[0][head] == pytest.approx(0.05, rel=1e-4)
        assert found.k.norm_rms[0][head] == pytest.approx(0.05, rel=1e-4)
        assert abs(found.k.null_norm_mean[0][head]) < 0.004
        assert found.k.null_norm_rms[0][head] < 0.04
    mean, rms = found.null_rows()
    assert (mean.measured, rms.measured) == (pytest.approx(0.05, rel=1e-4), pytest.approx(0.05, rel=1e-4))
    assert abs(mean.null) < 0.004
    assert found.sample.sentence == "Counted on 400 tokens; the null is the mean of 3 draws (seed 0)."


def test_of_noise_at_random_angles_measured_and_null_agree():
    """Errors of one length, at random angles already: turning them again changes no mean; it is half |e|^2 / |v|^2."""
    x = torch.randn(2, 6000, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x / x.norm(dim=-1, keepdim=True)
    angle = torch.rand(2, 6000, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 * math.pi
    y = x + 0.1 * torch.cat([angle.cos(), angle.sin()], -1) / math.sqrt(3)
    meter = RoundingMeter(2, BAND[:6], "half", 0, AngleBlind(2, 3, 3, 1))
    meter.update(0, x, y)
    found = roundings_of([meter], []).k
    # E|v + e| - 1 = |e|^2/2 - E(v.e)^2/2, and (v.e)^2 is |e|^2 / 6 on average
    assert found.norm_mean[0] == pytest.approx([0.01 / 2 * (1 - 1 / 6)] * 2, rel=0.25)
    assert found.null_norm_mean[0] == pytest.approx([0.01 / 2 * (1 - 1 / 6)] * 2, rel=0.25)
    assert found.norm_rms[0] == pytest.approx(found.null_norm_rms[0], rel=0.05)


def test_rounding_to_zero_shortens_where_the_null_lengthens():
    x = torch.full((1, 200, 7), 0.4)
    x[..., 0] = 7.0
    y = fake_quantize(x, QuantizerSpec(4))  # step 1: every 0.4 becomes 0
    meter = RoundingMeter(1, BAND, "half", 0, AngleBlind(1, 3, 0, 2))
    meter.update(0, x, y, ends_of(x, QuantizerSpec(4)))
    found = roundings_of([meter], []).k
    assert found.norm_mean[0][0] == pytest.approx(7 / math.sqrt(49 + 6 * 0.16) - 1, rel=1e-3)
    assert found.norm_mean[0][0] < 0 < found.null_norm_mean[0][0]
    assert found.relative_to_value[0][0] == pytest.approx(1.0, rel=2e-3)
    assert found.zeroed[0][0] == pytest.approx(6 / 7)
    assert found.clipped[0][0] == 0


def test_chunks_change_nothing_and_layers_without_rope_have_no_bands():
    x = keys(tokens=600)
    y, ends = fake_quantize(x, COARSE), ends_of(x, COARSE)
    one, many = (roundings_of([measured(x, y, ends, chunk)] * 2, [], still=[1]).k for chunk in (600, 7))
    for field in set(type(one).model_fields) - {"band_rms", "band_largest"}:
        for a, b in zip(getattr(one, field), getattr(many, field), strict=True):
            assert a == pytest.approx(b, rel=1e-4), field
    assert one.band_rms[0] == pytest.approx(many.band_rms[0], rel=1e-5)
    assert one.band_largest == many.band_largest
    assert one.band_rms[1] == [None, None]
    assert one.rms[1] == one.rms[0]
    whole = (y - x).abs()  # of a layer that does not turn all channels are without rotation
    assert one.rest_largest[1] == pytest.approx(float(whole.max()), rel=1e-5)
    assert one.rest_rms[1] == pytest.approx(float(whole.square().mean().sqrt()), rel=1e-5)
    assert one.rest_largest[0] < one.rest_largest[1]


def test_without_a_quantizer_of_its_own_ends_are_not_known():
    x = keys()
    found = roundings_of([measured(x, x + 0.01)], []).k
    assert found.clipped == found.zeroed == [[None, None]]
    assert found.rms[0] == pytest.approx([0.01, 0.01], rel=1e-4)
