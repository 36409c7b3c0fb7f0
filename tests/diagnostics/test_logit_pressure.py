"""Per-pair logit derivatives add up to the finite difference of the logit; RoPE in complex Python floats."""

import cmath
import math

import pytest
import torch

from qroar_core.diagnostics.pressure.measure import LogitPressureMeter, logit_slope_parts

HEADS, KV, HEAD_DIM, ROTARY = 4, 2, 10, 8
SCALING = HEAD_DIM**-0.5
PAIRING = {
    "half": [(i, i + ROTARY // 2) for i in range(ROTARY // 2)],
    "interleaved": [(2 * i, 2 * i + 1) for i in range(ROTARY // 2)],
}
ROWS, KEYS = [3, 40, 700], [0, 2, 39, 40, 650]


def omega(ln_s: float) -> list[float]:
    """A made-up interpolation: pair i slows as s^(-i/3)."""
    return [10 ** (-i / 2) * math.exp(-ln_s * i / 3) for i in range(ROTARY // 2)]


def factor(ln_s: float) -> float:
    return 1 + 0.1 * ln_s


def rotated(x: torch.Tensor, positions: list[int], ln_s: float, pairing: str) -> torch.Tensor:
    out = x.clone()
    for t, m in enumerate(positions):
        for (a, b), w in zip(PAIRING[pairing], omega(ln_s), strict=True):
            for h in range(len(x)):
                z = complex(x[h, t, a], x[h, t, b]) * cmath.exp(1j * w * m) * factor(ln_s)
                out[h, t, a], out[h, t, b] = z.real, z.imag
    return out


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return (
        torch.randn(HEADS, len(ROWS), HEAD_DIM, generator=g, dtype=torch.float64),
        torch.randn(KV, len(KEYS), HEAD_DIM, generator=g, dtype=torch.float64),
    )


def logits(q: torch.Tensor, k: torch.Tensor, ln_s: float, pairing: str) -> torch.Tensor:
    q, k = rotated(q, ROWS, ln_s, pairing), rotated(k, KEYS, ln_s, pairing)
    return SCALING * torch.stack([q[h] @ k[h // (HEADS // KV)].T for h in range(HEADS)])


def parts(q: torch.Tensor, k: torch.Tensor, ln_s: float, pairing: str) -> torch.Tensor:
    slope = torch.tensor([-(i / 3) * w for i, w in enumerate(omega(ln_s))], dtype=torch.float64)
    distance = torch.tensor(ROWS)[:, None] - torch.tensor(KEYS)
    return logit_slope_parts(
        rotated(q, ROWS, ln_s, pairing),
        rotated(k, KEYS, ln_s, pairing),
        distance,
        slope,
        scaling=SCALING,
        pairing=pairing,
        factor_slope=0.1 / factor(ln_s),
    )


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_parts_add_up_to_the_finite_difference_of_the_logit(pairing):
    (q, k), ln_s, h = sample(), math.log(3.0), 1e-6
    expected = (logits(q, k, ln_s + h, pairing) - logits(q, k, ln_s - h, pairing)) / (2 * h)
    found = parts(q, k, ln_s, pairing).sum(-1)
    assert float(expected.abs().max()) > 10
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_meter_is_the_mean_over_causal_samples_however_it_is_fed():
    (q, k), ln_s = sample(), math.log(3.0)
    seen = [(r, n) for r, m in enumerate(ROWS) for n, key in enumerate(KEYS) if m >= key]
    each = parts(q, k, ln_s, "half")
    by_hand = torch.stack(
        [torch.stack([each[h, r, n] for h in (2 * g, 2 * g + 1) for r, n in seen]) for g in range(KV)]
    )
    slope = torch.tensor([-(i / 3) * w for i, w in enumerate(omega(ln_s))], dtype=torch.float64)
    meter = LogitPressureMeter(slope, KV, scaling=SCALING, pairing="half", factor_slope=0.1 / factor(ln_s))
    q, k = rotated(q, ROWS, ln_s, "half"), rotated(k, KEYS, ln_s, "half")
    meter.update(q[:, :1], torch.tensor(ROWS[:1]), k, torch.tensor(KEYS))
    meter.update(q[:, 1:], torch.tensor(ROWS[1:]), k, torch.tensor(KEYS))
    found = meter.result()
    assert found.samples == 2 * len(seen)
    assert torch.allclose(found.by_pair, by_hand.abs().mean(1))
    assert torch.allclose(found.total, by_hand.sum(-1).abs().mean(1))
    assert bool((found.total <= found.by_pair.sum(1) + 1e-12).all())
    assert torch.allclose(found.by_band(torch.tensor([0, 0, 0, 1]))[:, 0], found.by_pair[:, :3].sum(1))


def test_meter_without_samples_is_nan():
    meter = LogitPressureMeter(torch.ones(4), KV, scaling=1.0, pairing="half")
    assert bool(meter.result().by_pair.isnan().all())
