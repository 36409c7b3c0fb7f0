"""Amplitude and phase errors against complex Python numbers, and planted pure stretches and turns."""

import cmath
import math

import pytest
import torch

from qroar_core.diagnostics.pair_error.measure import PairErrorMeter
from qroar_core.maths.positions import PositionBins

L, BINS, BAND = 40, 3, torch.tensor([0, 0, 1])
PAIRING = {"half": [(0, 3), (1, 4), (2, 5)], "interleaved": [(0, 1), (2, 3), (4, 5)]}


def signal() -> torch.Tensor:
    return torch.randn(2, L, 7, generator=torch.Generator().manual_seed(0))  # channel 6 is not rotated


def measured(x: torch.Tensor, y: torch.Tensor, pairing: str = "half"):
    meter = PairErrorMeter(BAND, pairing, PositionBins(L, BINS))
    meter.update(0, x[:, :17], y[:, :17])
    meter.update(17, x[:, 17:], y[:, 17:])
    return meter.result()


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_every_number_by_complex_arithmetic(pairing):
    x = signal()
    y = (x / 0.8).round() * 0.8  # coarse: some pairs become zero
    found = measured(x, y, pairing)
    for band in range(2):
        for p in range(BINS):
            amplitude, phase, lengths, energies, lost, n = [], [], 0.0, 0.0, 0, 0
            for i, (a, b) in enumerate(PAIRING[pairing]):
                for h in range(2):
                    for m in range(L):
                        if int(BAND[i]) != band or m * BINS // L != p:
                            continue
                        z, w = complex(x[h, m, a], x[h, m, b]), complex(y[h, m, a], y[h, m, b])
                        n += 1
                        amplitude.append(abs(w) / abs(z) - 1)
                        lengths += (abs(w) - abs(z)) ** 2
                        energies += abs(w - z) ** 2
                        if w == 0:
                            lost += 1
                        else:
                            phase.append(cmath.phase(w * z.conjugate()))
            rms = (
                math.sqrt(sum(a * a for a in amplitude) / n),
                math.sqrt(sum(f * f for f in phase) / len(phase)),
            )
            assert lost > 0
            assert float(found.amplitude_rms[band, p]) == pytest.approx(rms[0], rel=1e-4)
            assert float(found.amplitude_mean[band, p]) == pytest.approx(sum(amplitude) / n, abs=1e-5)
            assert float(found.phase_rms[band, p]) == pytest.approx(rms[1], rel=1e-4)
            assert float(found.phase_mean[band, p]) == pytest.approx(sum(phase) / len(phase), abs=1e-5)
            assert float(found.zeroed[band, p]) == pytest.approx(lost / n)
            assert float(found.length_share[band, p]) == pytest.approx(lengths / energies, rel=1e-4)


def test_a_stretch_is_all_length_and_a_turn_all_angle():
    x = signal()
    stretched = measured(x, 1.1 * x)
    assert stretched.amplitude_rms.flatten().tolist() == pytest.approx([0.1] * 6, rel=1e-5)
    assert stretched.length_share.flatten().tolist() == pytest.approx([1.0] * 6, abs=1e-5)
    assert float(stretched.phase_rms.max()) < 1e-6
    c, s = math.cos(0.2), math.sin(0.2)
    turned = measured(
        x, torch.cat([x[..., :3] * c - x[..., 3:6] * s, x[..., 3:6] * c + x[..., :3] * s, x[..., 6:]], -1)
    )
    assert turned.phase_mean.flatten().tolist() == pytest.approx([0.2] * 6, rel=1e-5)
    assert turned.phase_rms.flatten().tolist() == pytest.approx([0.2] * 6, rel=1e-5)
    assert float(turned.amplitude_rms.max()) < 1e-6
    assert float(turned.length_share.max()) < 1e-6


def test_zero_pairs_of_the_reference_are_skipped():
    x = signal()
    y = 1.1 * x
    x[:, 5] = 0
    y[:, 5] = 3.0
    found = measured(x, y)
    assert found.amplitude_rms.flatten().tolist() == pytest.approx([0.1] * 6, rel=1e-5)
    assert found.length_share.flatten().tolist() == pytest.approx([1.0] * 6, abs=1e-5)
    assert not bool(found.zeroed.any())
