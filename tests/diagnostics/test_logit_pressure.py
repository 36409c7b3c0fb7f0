"""Per-pair logit derivatives add up to the finite difference of the logit; RoPE in complex Python floats."""

import cmath
import itertools
import math

import pytest
import torch

from qroar_core.diagnostics.pressure.measure import LogitChangeMeter, logit_slope_parts
from qroar_core.maths.distances import drawn_pairs

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


LENGTH, BAND = 12, [0, 0, 0, 1]


def context(pairing: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q and k of every position after RoPE, and the signed parts of every (m, n); each by Python floats."""
    g, every, ln_s = torch.Generator().manual_seed(5), list(range(LENGTH)), math.log(3.0)
    q, k = (torch.randn(h, LENGTH, HEAD_DIM, generator=g, dtype=torch.float64) for h in (HEADS, KV))
    signed = torch.zeros(HEADS, LENGTH, LENGTH, ROTARY // 2, dtype=torch.float64)
    for pair, (a, b) in enumerate(PAIRING[pairing]):
        for h in range(HEADS):
            for m in every:
                for n in every:
                    z = complex(q[h, m, a], q[h, m, b]) * complex(k[h // 2, n, a], -k[h // 2, n, b])
                    e = 1e-6
                    up, down = (
                        SCALING * factor(x) ** 2 * (z * cmath.exp(1j * omega(x)[pair] * (m - n))).real
                        for x in (ln_s + e, ln_s - e)
                    )
                    signed[h, m, n, pair] = (up - down) / (2 * e)
    return rotated(q, every, ln_s, pairing), rotated(k, every, ln_s, pairing), signed


def meter_of(drawn, pairing="half", draws=1, seed=0):
    ln_s = math.log(3.0)
    slope = torch.tensor([-(i / 3) * w for i, w in enumerate(omega(ln_s))], dtype=torch.float64)
    return LogitChangeMeter(
        slope,
        drawn,
        torch.tensor(BAND),
        scaling=SCALING,
        pairing=pairing,
        factor_slope=0.1 / factor(ln_s),
        draws=draws,
        seed=seed,
    )


def law_mean(each, law):
    """Mean over (m, n <= m) and heads under a law; each (heads, L, L, ...)."""
    mass = {(m, n): 1.0 if law == "causal" else 1 / (LENGTH - m + n) for m in range(LENGTH) for n in range(m + 1)}
    total = sum(mass.values())
    return sum(w / total * each[:, m, n].mean(0) for (m, n), w in mass.items())


@pytest.mark.parametrize("law", ["causal", "uniform"])
@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_the_meter_is_the_mean_change_of_the_logit_and_of_each_band_under_the_law(pairing, law):
    q, k, signed = context(pairing)
    drawn = drawn_pairs(LENGTH, law, None, 0)
    meter = meter_of(drawn, pairing)
    meter.update(q, 0, k)
    found = meter.result()
    sums = torch.stack((signed[..., :3].sum(-1), signed[..., 3], signed.sum(-1)), -1)
    moved, parts = drawn.mean(found.moved), drawn.mean(found.parts)
    torch.testing.assert_close(moved, law_mean(sums.abs(), law), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(parts, law_mean(signed.abs(), law), rtol=1e-6, atol=1e-8)
    assert float(moved[-1]) < 0.9 * float(parts.sum())  # pairs cancel: the sum of parts is a bound and no more
    assert float(moved[0]) < float(parts[:3].sum())


def test_the_null_is_the_mean_over_every_choice_of_signs():
    q, k, signed = context("half")
    drawn = drawn_pairs(LENGTH, "causal", None, 0)
    meter = meter_of(drawn, draws=60)
    meter.update(q, 0, k)
    nulls = torch.stack([drawn.mean(one) for one in meter.result().null])  # (draws, bands + 1)
    choices = [torch.tensor(c).double() for c in itertools.product((-1, 1), repeat=4)]
    every = [torch.stack((f[..., :3].sum(-1), f[..., 3], f.sum(-1)), -1).abs() for f in (signed * c for c in choices)]
    exact = law_mean(sum(every) / len(every), "causal")
    assert float(nulls[:, 1].std()) < 1e-9  # a band of one pair has nothing to cancel: its null is itself
    for at in (0, 2):
        error = float(nulls[:, at].std()) / len(nulls) ** 0.5
        assert float(nulls[:, at].mean()) == pytest.approx(float(exact[at]), abs=4 * error)
    assert float(nulls[:, 0].std()) > 0


def test_parts_that_all_push_one_way_stand_far_above_the_null_and_opposed_ones_far_below():
    """Sixteen pairs of one frequency: alike they add up to the bound; alternating in sign they cancel."""
    pairs, length = 16, 8
    drawn = drawn_pairs(length, "causal", None, 0)
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        q = torch.zeros(1, length, 2 * pairs, dtype=torch.float64)
        k = torch.zeros(1, length, 2 * pairs, dtype=torch.float64)
        q[..., :pairs] = 1.0
        k[..., pairs:] = torch.tensor([sign**i for i in range(pairs)]).double()
        meter = LogitChangeMeter(
            torch.ones(pairs).double(),
            drawn,
            torch.zeros(pairs, dtype=torch.int64),
            scaling=1.0,
            pairing="half",
            draws=5,
        )
        meter.update(q, 0, k)
        found = meter.result()
        three = found.moved[:, -1], found.parts.sum(1), found.null[0, :, -1]
        moved, bound, null = (float(drawn.mean(x)) for x in three)
        assert moved == pytest.approx(expected * bound, abs=1e-12)
        assert null == pytest.approx(bound * 0.785521 / 4, rel=0.2)  # E|sum of 16 signs| / 16 = 0.1964


def test_chunks_do_not_matter():
    """Rows arrive in other chunks, and the null's signs are the rows' own all the same."""
    q, k, _ = context("half")
    drawn = drawn_pairs(LENGTH, "causal", None, 0)
    whole, split = meter_of(drawn, draws=2), meter_of(drawn, draws=2)
    whole.update(q, 0, k)
    for first, stop in ((0, 1), (1, 6), (6, LENGTH)):
        split.update(q[:, first:stop], first, k[:, :stop] if stop > 6 else k)
    for one, other in zip(vars_of(whole), vars_of(split), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(whole.result().null[0], whole.result().null[1])
    again = meter_of(drawn, draws=2, seed=1)
    again.update(q, 0, k)
    assert not torch.allclose(again.result().null, whole.result().null)


def vars_of(meter):
    found = meter.result()
    return found.parts, found.moved, found.null


def test_rows_not_counted_are_nan():
    assert bool(meter_of(drawn_pairs(LENGTH, "causal", None, 0)).result().moved.isnan().all())


def test_a_model_whose_pairs_know_nothing_of_each_other_stands_on_its_null():
    """The null's claim where it is true: q and k at random, so that pairs push at random; 1 within a few percent."""
    g, pairs, length = torch.Generator().manual_seed(1), 32, 96
    drawn = drawn_pairs(length, "causal", None, 0)
    q, k = (torch.randn(h, length, 2 * pairs, generator=g, dtype=torch.float64) for h in (4, 2))
    slope = -(10_000.0 ** (-torch.arange(pairs).double() / pairs))
    meter = LogitChangeMeter(slope, drawn, torch.arange(pairs) // 8, scaling=0.1, pairing="half")
    meter.update(q, 0, k)
    found = meter.result()
    ratio = drawn.mean(found.moved) / drawn.mean(found.null[0])
    assert ratio.tolist() == pytest.approx([1.0] * 5, abs=0.03)
    assert float(drawn.mean(found.parts).sum()) > 2 * float(drawn.mean(found.moved)[-1])
