"""Dilation against loops, and a planted doubling that must read as one bit."""

import math

import numpy as np
import pytest
import torch

from qroar_core.diagnostics.dilation.measure import QuantilesByPosition, dilation
from qroar_core.diagnostics.outliers.measure import ChannelMeter
from qroar_core.maths.positions import PositionBins
from qroar_core.maths.rope import cos_sin, pair_norm, rotate

HEADS, KV, D, L, BINS = 4, 2, 8, 64, 4
BAND = torch.tensor([0, 0, 1, 1, 1, -1, 1, 0])


def signal() -> torch.Tensor:
    return torch.randn(HEADS, L, D, generator=torch.Generator().manual_seed(1))


def measured(x, reference=slice(0, 1), band=BAND):
    meter = ChannelMeter(KV, D, PositionBins(L, BINS))
    meter.update(0, x[:, :23])
    meter.update(23, x[:, 23:])
    return dilation(meter.result(), band, reference)


def test_every_number_by_loop():
    x = signal()
    found = measured(x, slice(0, 2))
    for kv in range(KV):
        for b in range(2):
            cells = [x[2 * kv : 2 * kv + 2, 16 * p : 16 * p + 16][..., b == BAND].double().numpy() for p in range(BINS)]
            reference = math.sqrt(np.abs(cells[0]).max() * np.abs(cells[1]).max())
            for p, cell in enumerate(cells):
                absmax, rms = np.abs(cell).max(), math.sqrt((cell**2).mean())
                assert float(found.absmax[kv, b, p]) == pytest.approx(absmax, rel=1e-6)
                assert float(found.rms[kv, b, p]) == pytest.approx(rms, rel=1e-6)
                assert float(found.bits_lost[kv, b, p]) == pytest.approx(math.log2(absmax / reference), abs=1e-6)
                assert float(found.crest_bits[kv, b, p]) == pytest.approx(math.log2(absmax / rms / 3**0.5), abs=1e-6)


def test_a_doubled_range_costs_the_quantizer_the_bit_it_says():
    """Noise of a uniform absmax quantizer, measured: x4 in range = 2 bits = noise x4."""
    x = torch.rand(HEADS, 16, D, generator=torch.Generator().manual_seed(2)).repeat(1, 4, 1) * 2 - 1
    x[:, 48:] *= 4
    lost = measured(x).bits_lost[..., 3]
    assert torch.allclose(lost, torch.full_like(lost, 2.0))

    def noise(part):
        step = part.abs().max() / 127
        return float(((part / step).round() * step - part).square().mean().sqrt())

    assert math.log2(noise(x[:, 48:]) / noise(x[:, :16])) == pytest.approx(2.0, abs=1e-5)


def test_empty_bins_are_nan_and_an_empty_reference_is_refused():
    meter = ChannelMeter(KV, D, PositionBins(L, BINS))
    meter.update(0, signal()[:, :16])
    found = dilation(meter.result(), BAND, slice(0, 2))
    assert bool(found.bits_lost[..., 1:].isnan().all())
    assert not bool(found.bits_lost[..., 0].any())
    with pytest.raises(ValueError, match="hold no tokens"):
        dilation(meter.result(), BAND, slice(2, 4))


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("chunks", [(64,), (10, 31, 23)])
def test_quantiles_by_position_are_within_the_histograms_bound(stride, chunks):
    x, meter, start = signal(), QuantilesByPosition(PositionBins(L, BINS), BAND, stride=stride), 0
    for part in x.split(list(chunks), 1):
        meter.update(start, part)
        start += part.shape[1]
    found = meter.result((0.5, 0.95))
    for p in range(BINS):
        tokens = [m for m in range(16 * p, 16 * p + 16) if m % stride == 0]
        for b in range(2):
            values = x[:, tokens][..., b == BAND].abs().numpy().ravel()
            for at, q in enumerate((0.5, 0.95)):
                exact = np.quantile(values, q, method="inverted_cdf")
                assert float(found[at, p, b]) == pytest.approx(exact, rel=meter.histogram.relative_bound)


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_rope_keeps_pair_norms_and_bounds_the_axes(pairing):
    """|z| changes only by a(s); |axis| <= |z| <= sqrt(2) max |axis|: absmax moves by half a bit at most."""
    x, attention = signal().double(), 1.2
    inv_freq = torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64)
    turned = rotate(x, *cos_sin(inv_freq, torch.arange(L), attention), pairing)
    norms = pair_norm(turned, D, pairing)
    assert torch.allclose(norms, attention * pair_norm(x, D, pairing), rtol=1e-12)
    channels = {
        "half": [(i, i + 4) for i in range(4)],
        "interleaved": [(2 * i, 2 * i + 1) for i in range(4)],
    }[pairing]
    for i, (a, b) in enumerate(channels):
        most = torch.maximum(turned[..., a].abs(), turned[..., b].abs())
        assert bool((most <= norms[..., i] * (1 + 1e-12)).all())
        assert bool((norms[..., i] <= 2**0.5 * most * (1 + 1e-12)).all())
    whole = torch.zeros(D).long()
    before, after = measured(x, band=whole).absmax, measured(turned, band=whole).absmax
    assert float((after / before / attention).log2().abs().max()) <= 0.5
