"""Amplitude and phase errors against complex Python numbers, and planted pure stretches and turns."""

import cmath
import math

import pytest
import torch

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.diagnostics.pair_error.measure import PairErrorMeter
from qroar_core.diagnostics.pair_error.table import pair_errors_of
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


def tall(tokens: int = 600) -> torch.Tensor:
    return torch.randn(2, tokens, 7, generator=torch.Generator().manual_seed(2))


def pooled(x, y, draws=4, chunk=1000, keep=None):
    meter = PairErrorMeter(BAND, "half", PositionBins(x.shape[1], BINS), 1, AngleBlind(2, 3, 5, draws))
    for start in range(0, x.shape[1], chunk):
        here = slice(start, start + chunk)
        meter.update(start, x[:, here], y[:, here], None if keep is None else keep[here])
    return pair_errors_of([meter])


def test_the_null_of_a_stretch_and_of_a_turn_is_half_length():
    """A stretch is all length and a turn all angle; at random angles both are half and half."""
    x = tall()
    stretched = pooled(x, 1.02 * x)
    assert stretched.share == pytest.approx(1.0, abs=1e-4)
    assert stretched.null.share == pytest.approx(0.5, abs=0.02)
    assert stretched.null.share_low < stretched.null.share < stretched.null.share_high
    # an error of 0.02 |z| at a random angle has amplitude and phase errors of 0.02 / sqrt 2 each
    for row in (*stretched.null.amplitude, *stretched.null.phase):
        assert row == pytest.approx([0.02 / math.sqrt(2)] * BINS, rel=0.05)
    c, s = math.cos(0.02), math.sin(0.02)
    turn = torch.cat([x[..., :3] * c - x[..., 3:6] * s, x[..., 3:6] * c + x[..., :3] * s, x[..., 6:]], -1)
    turned = pooled(x, turn)
    assert turned.share == pytest.approx(0.0, abs=1e-4)
    assert turned.null.share == pytest.approx(0.5, abs=0.02)
    share, amplitude, phase = turned.null_rows()
    assert (share.measured, share.null) == (turned.share, turned.null.share)
    assert (amplitude.measured, phase.measured) == (pytest.approx(0, abs=1e-5), pytest.approx(0.02, rel=1e-3))
    assert amplitude.null == pytest.approx(phase.null, rel=0.05)


def test_the_null_of_small_errors_has_as_much_length_as_angle_and_that_of_large_ones_has_not():
    x = torch.randn(1, 4000, 8, generator=torch.Generator().manual_seed(0))
    x /= x.norm(dim=-1, keepdim=True)
    pairs = x.unflatten(-1, (2, 4))
    x = (pairs / pairs.norm(dim=2, keepdim=True)).flatten(-2)  # every pair has length 1: no small one rules the mean
    for size, near in ((0.02, True), (1.5, False)):
        meter = PairErrorMeter(torch.zeros(4).long(), "half", PositionBins(4000, 1), blind=AngleBlind(1, 4, 0, 1))
        meter.update(0, x, (1 + size) * x)
        null = meter.nulls[0].result()
        ratio = float(null.amplitude_rms / null.phase_rms)
        assert (abs(ratio - 1) < 0.05) is near


def test_share_is_of_all_error_energy_and_zeroed_of_all_pairs():
    """Not the mean of shares: band 1 has nearly all of the energy, and its length share counts for as much."""
    x = tall()
    y = x.clone()
    y[..., [0, 1, 3, 4]] *= 1.01  # band 0: all length
    y[..., 2], y[..., 5] = -x[..., 5], x[..., 2]  # band 1: a quarter turn
    y[:, :60, [2, 5]] = 0.0
    found = pooled(x, y)
    z, w = torch.complex(x[..., :3], x[..., 3:6]).to(torch.complex128), torch.complex(y[..., :3], y[..., 3:6])
    length, energy = (w.abs() - z.abs()).square(), (w - z).abs().square()
    assert found.share == pytest.approx(float(length.sum() / energy.sum()), rel=1e-4)
    assert found.share < 0.1
    assert found.zeroed_share == pytest.approx(60 / 600 / 3)
    assert found.zeroed == [[0.0] * BINS, pytest.approx([0.3, 0.0, 0.0])]


def test_chunks_and_tokens_left_out_change_no_more_than_they_say():
    x = tall()
    y = (x / 0.8).round() * 0.8
    whole, cut = pooled(x, y), pooled(x, y, chunk=37)
    assert whole.null.share == pytest.approx(cut.null.share, rel=1e-5)
    assert whole.null.phase[1] == pytest.approx(cut.null.phase[1], rel=1e-5)
    keep = torch.arange(600) < 450
    y[:, 450:] = 99.0
    left = pooled(x, y, keep=keep)
    assert left.sample.tokens == 450
    for band in range(2):
        assert left.amplitude[band][:2] == pytest.approx(whole.amplitude[band][:2], rel=1e-5)
        assert left.amplitude[band][2] < 2  # what is left out is far off
