"""Anisotropy against a loop over pairs, and quantizers whose angular error is known."""

import itertools
import math

import pytest
import torch

from qroar_core.diagnostics.anisotropy.measure import MIN_PAIRS, AnisotropyMeter

PAIRING = {"half": [(0, 2), (1, 3)], "interleaved": [(0, 1), (2, 3)]}


def absmax_round(x: torch.Tensor, levels: int = 7) -> torch.Tensor:
    step = x.abs().amax(-1, keepdim=True) / levels
    return (x / step).round() * step


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_energies_by_loop_over_pairs(pairing):
    x = torch.randn(2, 300, 5, generator=torch.Generator().manual_seed(0))  # channel 4 is not rotated
    y, angles = absmax_round(x), 6
    meter = AnisotropyMeter(torch.tensor([0, 1]), pairing, angles)
    meter.update(x[:, :100], y[:, :100])
    meter.update(x[:, 100:], y[:, 100:])
    found = meter.result()
    for band, (a, b) in enumerate(PAIRING[pairing]):
        error, energy = [[] for _ in range(angles)], [[] for _ in range(angles)]
        for h in range(2):
            for t in range(300):
                z, w = complex(x[h, t, a], x[h, t, b]), complex(y[h, t, a], y[h, t, b])
                at = int(math.atan2(z.imag, z.real) % (math.pi / 2) / (math.pi / 2) * angles)
                error[at].append(abs(w - z) ** 2)
                energy[at].append(abs(z) ** 2)
        mean = [sum(e) / len(e) for e in error]
        assert found.count[band].tolist() == [len(e) for e in error]
        assert found.error[band].tolist() == pytest.approx(mean, rel=1e-4)
        assert found.energy[band].tolist() == pytest.approx([sum(e) / len(e) for e in energy], rel=1e-4)
        assert float(found.ratio[band]) == pytest.approx(max(mean) / min(mean), rel=1e-4)
        relative = [sum(a) / sum(b) for a, b in zip(error, energy, strict=True)]
        assert float(found.relative_ratio[band]) == pytest.approx(max(relative) / min(relative), rel=1e-4)
    assert found.angle.tolist() == pytest.approx([(j + 0.5) * math.pi / 12 for j in range(6)])


def circle(n: int = 40_000) -> torch.Tensor:
    angle = torch.arange(n) * (2 * math.pi / n)
    return torch.stack([angle.cos(), angle.sin()], -1)[None]  # (1, n, 2): one pair a token, constant norm


def test_sign_quantizer_is_worst_on_the_axes_and_exact_on_the_diagonal():
    """Rounding to +-absmax/sqrt(2): error 2 - 2 cos(angle - pi/4) on the unit circle, by trigonometry."""
    x = circle()
    meter = AnisotropyMeter(torch.zeros(1).long(), "half", 8)
    meter.update(x, x.sign() / 2**0.5)
    found = meter.result()
    edges = [j * math.pi / 16 - math.pi / 4 for j in range(9)]
    expected = [2 - 2 * (math.sin(v) - math.sin(u)) / (v - u) for u, v in itertools.pairwise(edges)]
    assert found.error[0].tolist() == pytest.approx(expected, rel=2e-3)
    assert float(found.ratio) > 20


def test_isotropic_noise_has_ratio_one():
    x = circle()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    meter = AnisotropyMeter(torch.zeros(1).long(), "half", 8)
    meter.update(x, x + noise)
    assert float(meter.result().ratio) == pytest.approx(1.0, abs=0.08)


def test_thin_angles_are_left_out_and_none_is_nan():
    meter = AnisotropyMeter(torch.zeros(1).long(), "half", 4)
    assert math.isnan(meter.result().ratio)
    x = torch.tensor([1.0, 0.1]).expand(1, MIN_PAIRS, 2)
    meter.update(x, x + 0.1)
    meter.update(torch.tensor([[[1.0, 0.9]]]), torch.tensor([[[9.0, 0.9]]]))  # one wild pair elsewhere
    assert float(meter.result().ratio) == 1.0
    with pytest.raises(ValueError, match="angles"):
        AnisotropyMeter(torch.zeros(1).long(), "half", 1)
