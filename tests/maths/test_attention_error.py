"""The cached objective against float64 loops over tokens, heads and channels that share no code with it."""

import cmath
import math
from dataclasses import replace

import pytest
import torch

from qroar_core.maths.attention_error import (
    CapturedLayer,
    ErrorSetup,
    attention_error,
    channel_log2,
    output_metric,
    output_of,
)
from qroar_core.specs import QuantizerSpec, QuantSpec

HEADS, KV, T, D, HIDDEN = 4, 2, 7, 8, 5
ROWS = [2, 4, 6]
OMEGA, FACTOR, SCALING = (1.0, 0.3, 0.05), 1.2, 0.6  # three pairs (half pairing, rotary_dim 6), attention factor
PAIRS = ((0, 3), (1, 4), (2, 5))
BAND = (0, 1, 1, 0, 1, 1, -1, -1)
INT4, INT8 = QuantizerSpec(4), QuantizerSpec(8)
QUANTS = {
    "token": QuantSpec(k=INT4),
    "before rope": QuantSpec(k=QuantizerSpec(4, before_rope=True)),
    "activations": QuantSpec(qk=QuantizerSpec(5)),
    "cache and activations": QuantSpec(k=INT4, qk=QuantizerSpec(5)),
    "hadamard": QuantSpec(k=QuantizerSpec(4, rotation="hadamard")),
}


@pytest.fixture
def case():
    """q, k, v, W_O and an `out` of its own, so that no error is zero by accident; k has one loud band."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k, v, w_o = draw(HEADS, len(ROWS), D), draw(KV, T, D), draw(KV, T, D), draw(HIDDEN, HEADS * D).float().double()
    k[..., [1, 4]] *= 5
    out = output_of(q, torch.tensor(ROWS), k, v, SCALING) + 0.1 * draw(HEADS, len(ROWS), D)
    return CapturedLayer(q, torch.tensor(ROWS), k, v, out), w_o


def setup(quant, mode):
    angle = [[OMEGA[p] * m for p in range(3)] for m in range(T)]
    cos = torch.tensor([[FACTOR * math.cos(a) for a in row] for row in angle], dtype=torch.float64)
    sin = torch.tensor([[FACTOR * math.sin(a) for a in row] for row in angle], dtype=torch.float64)
    return ErrorSetup(quant, mode, torch.tensor(BAND), SCALING, "half", cos, sin, "projected")


class ByHand:
    """E(g) in plain Python. `frozen` keeps the rounding residues of the first call: what straight-through means."""

    def __init__(self, layer, w_o, quant, mode, frozen=False):
        self.q, self.k, self.v, self.out = (getattr(layer, x).tolist() for x in ("q", "k", "v", "out"))
        self.w_o, self.quant, self.mode = w_o.tolist(), quant, mode
        self.residues = {} if frozen else None

    def rounded(self, x, bits, key):
        top = 2 ** (bits - 1) - 1
        step = max(abs(c) for c in x) / top
        residue = [round(c / step) - c / step for c in x]
        if self.residues is not None:
            residue = self.residues.setdefault(key, residue)
        return [c + step * r for c, r in zip(x, residue, strict=True)]

    def stored(self, k, head, n):
        spec = self.quant.k
        if spec is None:
            return k
        if spec.rotation == "hadamard":
            signs = [[(-1) ** bin(i & j).count("1") / math.sqrt(D) for j in range(D)] for i in range(D)]

            def turn(x):
                return [sum(s * c for s, c in zip(row, x, strict=True)) for row in signs]

            return turn(self.rounded(turn(k), spec.bits, ("k", head, n)))
        if not spec.before_rope:
            return self.rounded(k, spec.bits, ("k", head, n))
        spin = [FACTOR * cmath.exp(1j * omega * n) for omega in OMEGA]
        plain = list(k)
        for (a, b), w in zip(PAIRS, spin, strict=True):
            z = complex(k[a], k[b]) / w
            plain[a], plain[b] = z.real, z.imag
        plain = self.rounded(plain, spec.bits, ("k", head, n))
        for (a, b), w in zip(PAIRS, spin, strict=True):
            z = complex(plain[a], plain[b]) * w
            plain[a], plain[b] = z.real, z.imag
        return plain

    def __call__(self, log2_g):
        """{(kv head, row index): E}."""
        total = {}
        for h in range(HEADS):
            c = h // (HEADS // KV)
            g = [2.0 ** float(log2_g[c][b]) if b >= 0 else 1.0 for b in BAND]
            keys = []
            for n in range(T):
                gained = [x / s if self.mode == "symmetric" else x * s for x, s in zip(self.k[c][n], g, strict=True)]
                key = self.stored(gained, c, n)
                keys.append(self.rounded(key, self.quant.qk.bits, ("ka", c, n)) if self.quant.qk else key)
            for i, row in enumerate(ROWS):
                query = [x * s for x, s in zip(self.q[h][i], g, strict=True)]
                if self.quant.qk:
                    query = self.rounded(query, self.quant.qk.bits, ("q", h, i))
                seen = range(row + 1)
                weight = [math.exp(SCALING * sum(a * b for a, b in zip(query, keys[n], strict=True))) for n in seen]
                moved = [
                    sum(weight[n] * self.v[c][n][d] for n in seen) / sum(weight) - self.out[h][i][d] for d in range(D)
                ]
                through = [sum(w[h * D + d] * moved[d] for d in range(D)) for w in self.w_o]
                total[c, i] = total.get((c, i), 0.0) + sum(x * x for x in through)
        return total

    def sum(self, log2_g):
        return math.fsum(self(log2_g).values())


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("name", QUANTS)
def test_error_is_the_dense_one(case, name, mode):
    layer, w_o = case
    metric = output_metric(w_o, HEADS).double()
    for log2_g in (torch.zeros(KV, 2), torch.tensor([[-0.7, 1.3], [0.4, -0.2]])):
        found = attention_error(layer, log2_g.double(), metric, setup(QUANTS[name], mode))
        expected = ByHand(layer, w_o, QUANTS[name], mode)(log2_g.tolist())
        for (c, i), value in expected.items():
            assert float(found[c, i]) == pytest.approx(value, rel=2e-6)  # the metric is formed in float32


def test_some_rows_are_those_rows_of_all(case):
    layer, w_o = case
    log2_g = torch.full((KV, 2), 0.5, dtype=torch.float64)
    args = (log2_g, output_metric(w_o, HEADS).double(), setup(QUANTS["token"], "symmetric"))
    some = attention_error(layer, *args, pick=torch.tensor([1, 2]))
    assert torch.allclose(some, attention_error(layer, *args)[:, 1:], rtol=1e-12)
    assert torch.allclose(attention_error(layer, *args, pick=torch.tensor([0])), attention_error(layer, *args)[:, :1])


def test_reference_ignores_the_quantizer(case):
    layer, w_o = case
    metric, log2_g = output_metric(w_o, HEADS).double(), torch.full((KV, 2), 0.5, dtype=torch.float64)
    found = attention_error(layer, log2_g, metric, setup(QUANTS["cache and activations"], "shared"), reference=True)
    expected = ByHand(layer, w_o, QuantSpec(), "shared")(log2_g.tolist())
    assert {k: float(found[k]) for k in expected} == pytest.approx(expected, rel=2e-6)


def test_symmetric_scales_move_nothing_without_a_quantizer(case):
    """(g, 1/g) leaves every logit; g on both sides does not."""
    layer, w_o = case
    metric, log2_g = output_metric(w_o, HEADS).double(), torch.tensor([[2.0, -1.0], [0.3, 4.0]], dtype=torch.float64)
    none = torch.zeros_like(log2_g)
    still = attention_error(layer, none, metric, setup(QuantSpec(), "symmetric"))
    assert torch.allclose(attention_error(layer, log2_g, metric, setup(QuantSpec(), "symmetric")), still, rtol=1e-11)
    assert not torch.allclose(attention_error(layer, log2_g, metric, setup(QuantSpec(), "shared")), still, rtol=1e-2)


@pytest.mark.parametrize("name", ["token", "cache and activations"])
def test_a_factor_common_to_every_channel_changes_nothing(case, name):
    """A scale shared by the whole token follows it; with an unrotated channel left behind it is no longer common."""
    layer, w_o = case
    whole = replace(setup(QUANTS[name], "symmetric"), band=torch.tensor([0, 1, 1, 0, 1, 1, 1, 1]))
    metric = output_metric(w_o, HEADS).double()
    log2_g = torch.tensor([[0.4, -0.6], [0.0, 1.0]], dtype=torch.float64)
    base = attention_error(layer, log2_g, metric, whole)
    moved = log2_g + torch.tensor([[3.0], [-2.0]], dtype=torch.float64)
    assert torch.allclose(attention_error(layer, moved, metric, whole), base, rtol=1e-11)
    left = setup(QUANTS[name], "symmetric")
    there, here = (attention_error(layer, x, metric, left) for x in (moved, log2_g))
    assert not torch.allclose(there, here, rtol=1e-3)


def slope_of(function, log2_g, step=1e-5):
    """Central differences in every entry."""
    out = torch.zeros(KV, 2, dtype=torch.float64)
    for c in range(KV):
        for b in range(2):
            up, down = ([list(row) for row in log2_g] for _ in range(2))
            up[c][b] += step
            down[c][b] -= step
            out[c, b] = (function(up) - function(down)) / (2 * step)
    return out


def autograd_slope(layer, w_o, log2_g, quant, mode):
    x = torch.tensor(log2_g, dtype=torch.float64, requires_grad=True)
    attention_error(layer, x, output_metric(w_o, HEADS).double(), setup(quant, mode)).sum().backward()
    return x.grad


def test_gradient_is_the_finite_difference_where_nothing_rounds(case):
    layer, w_o = case
    log2_g = [[0.3, -0.4], [0.0, 0.2]]
    found = autograd_slope(layer, w_o, log2_g, QuantSpec(), "shared")
    expected = slope_of(ByHand(layer, w_o, QuantSpec(), "shared").sum, log2_g)
    assert float(expected.abs().min()) > 1e-3  # every entry says something
    assert torch.allclose(found, expected, rtol=1e-5)
    assert float(autograd_slope(layer, w_o, log2_g, QuantSpec(), "symmetric").abs().max()) < 1e-12


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
@pytest.mark.parametrize("name", QUANTS)
def test_gradient_is_straight_through(case, name, mode):
    """Oracle: x^ = x + step(x) * residue with the residues held still is smooth; its slope is the STE's."""
    layer, w_o = case
    log2_g = [[0.3, -0.4], [0.0, 0.2]]
    frozen = ByHand(layer, w_o, QUANTS[name], mode, frozen=True)
    assert frozen.sum(log2_g) == pytest.approx(ByHand(layer, w_o, QUANTS[name], mode).sum(log2_g), rel=1e-12)
    expected = slope_of(frozen.sum, log2_g)
    found = autograd_slope(layer, w_o, log2_g, QUANTS[name], mode)
    assert float(expected.abs().max()) > 1e-2
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_metric_is_the_length_of_what_w_o_writes():
    generator = torch.Generator().manual_seed(1)
    w_o, x = torch.randn(HIDDEN, HEADS * D, generator=generator), torch.randn(HEADS, D, generator=generator)
    metric = output_metric(w_o, HEADS)
    for h in range(HEADS):
        written = [sum(float(w_o[i, h * D + d]) * float(x[h, d]) for d in range(D)) for i in range(HIDDEN)]
        assert float(x[h] @ metric[h] @ x[h]) == pytest.approx(sum(y * y for y in written), rel=1e-5)


def test_channels_without_a_band_keep_gain_one():
    found = channel_log2(torch.tensor([[1.5, -2.0], [0.25, 3.0]]), torch.tensor(BAND))
    assert found.tolist() == [[1.5, -2, -2, 1.5, -2, -2, 0, 0], [0.25, 3, 3, 0.25, 3, 3, 0, 0]]


def test_unquantized_output_is_a_softmax_by_hand(case):
    layer, _ = case
    found = output_of(layer.q, layer.rows, layer.k, layer.v, SCALING)
    for h in range(HEADS):
        for i, row in enumerate(ROWS):
            k, v = layer.k[h // 2, : row + 1].tolist(), layer.v[h // 2, : row + 1].tolist()
            weight = [math.exp(SCALING * sum(a * b for a, b in zip(layer.q[h, i].tolist(), x, strict=True))) for x in k]
            expected = [sum(w * x[d] for w, x in zip(weight, v, strict=True)) / sum(weight) for d in range(D)]
            assert found[h, i].tolist() == pytest.approx(expected, rel=1e-12)
