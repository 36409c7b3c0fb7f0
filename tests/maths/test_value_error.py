"""The error of a rounded V cache under value maps, and the moments it starts from, against loops in plain floats."""

import math
from dataclasses import replace

import pytest
import torch

from qroar_core.maths.attention_error import CapturedLayer
from qroar_core.maths.softmax_rule import SoftmaxRule
from qroar_core.maths.value_error import ValueRows
from qroar_core.specs import QuantizerSpec

HEADS, KV, TOKENS, D, SCALING = 4, 2, 12, 6, 0.4
ROWS = torch.tensor([5, 9, 11])
INT4 = QuantizerSpec(4)
KIVI = QuantizerSpec(4, residual=4)  # a row reads its own block of 4 tokens exactly


def captured(rule=None):
    generator = torch.Generator().manual_seed(0)
    q, k, v, out = (
        torch.randn(n, t, D, generator=generator, dtype=torch.float64)
        for n, t in ((HEADS, 3), (KV, TOKENS), (KV, TOKENS), (HEADS, 3))
    )
    w_o = torch.randn(HEADS, 9, D, generator=generator, dtype=torch.float64)
    maps = torch.randn(KV, D, D, generator=generator, dtype=torch.float64)
    return CapturedLayer(q, ROWS, k, v, out, rule or SoftmaxRule()), w_o, maps


def weights_by_hand(layer, head, r, window=None):
    """Attention weights of one row over all keys, 0 where it sees none."""
    row, kv = int(ROWS[r]), head // (HEADS // KV)
    seen = [t for t in range(TOKENS) if t <= row and (window is None or t > row - window)]
    logits = {t: SCALING * sum(float(a * b) for a, b in zip(layer.q[head, r], layer.k[kv, t])) for t in seen}
    total = sum(math.exp(x) for x in logits.values())
    return [math.exp(logits[t]) / total if t in logits else 0.0 for t in range(TOKENS)]


def back_by_hand(v, matrix):
    """Mixed by M, each value to 7 steps up and down, mixed back."""
    mixed = [sum(float(matrix[i, j]) * v[j] for j in range(D)) for i in range(D)]
    step = max(map(abs, mixed)) / 7
    inverse = torch.linalg.inv(matrix)
    codes = [step * round(x / step) for x in mixed]
    return [sum(float(inverse[i, j]) * codes[j] for j in range(D)) for i in range(D)]


@pytest.mark.parametrize(("spec", "window"), [(INT4, None), (INT4, 4), (KIVI, None)])
def test_the_error_is_that_of_every_row_and_head_by_hand(spec, window):
    layer, w_o, maps = captured(SoftmaxRule(window=window))
    found = ValueRows.of(layer, w_o.mT @ w_o, SCALING, spec).error(maps)
    for kv in range(KV):
        expected = 0.0
        for head in (2 * kv, 2 * kv + 1):
            for r, row in enumerate(ROWS.tolist()):
                p = weights_by_hand(layer, head, r, window)
                exact = row // 4 * 4 if spec is KIVI else TOKENS
                moved = [0.0] * D
                for t in range(min(row + 1, exact)):
                    v = layer.v[kv, t].tolist()
                    back = back_by_hand(v, maps[kv])
                    moved = [m + p[t] * (b - x) for m, b, x in zip(moved, back, v)]
                out = [sum(float(w_o[head, i, j]) * moved[j] for j in range(D)) for i in range(9)]
                expected += sum(x * x for x in out)
        assert float(found[kv]) == pytest.approx(expected, rel=1e-9)


def test_the_moments_by_hand():
    layer, w_o, _ = captured()
    metric = w_o.mT @ w_o
    all_tokens, as_read, seen = ValueRows.of(layer, metric, SCALING, INT4).moments()
    for kv in range(KV):
        squares = {h: [weights_by_hand(layer, h, r) for r in range(3)] for h in (2 * kv, 2 * kv + 1)}
        for i, j in ((0, 0), (1, 4), (5, 2)):
            v = layer.v[kv]
            assert float(all_tokens[kv, i, j]) == pytest.approx(sum(float(x[i] * x[j]) for x in v), rel=1e-9)
            read = sum(
                sum(p[t] ** 2 for p in squares[h]) * float(metric[h].trace()) * float(v[t, i] * v[t, j])
                for h in squares
                for t in range(TOKENS)
            )
            assert float(as_read[kv, i, j]) == pytest.approx(read, rel=1e-9)
            weight = {h: sum(x * x for p in squares[h] for x in p) for h in squares}
            expected = sum(weight[h] * float(metric[h, i, j]) for h in squares)
            assert float(seen[kv, i, j]) == pytest.approx(expected, rel=1e-9)


def test_the_error_has_a_gradient_that_leads_down():
    layer, w_o, _ = captured()
    layer.v[..., 2] *= 20  # sets every step
    rows = ValueRows.of(layer, w_o.mT @ w_o, SCALING, INT4)
    x = torch.eye(D, dtype=torch.float64).expand(KV, D, D).clone().requires_grad_(True)
    before = rows.error(x).sum()
    before.backward()
    assert x.grad.isfinite().all()
    tried = [float(rows.error(x.detach() - rate * x.grad / x.grad.norm()).sum()) for rate in (0.03, 0.1, 0.3)]
    assert min(tried) < float(before.detach())


def test_a_gate_multiplies_the_output_before_w_o():
    """Oracle: the gate inside each row's metric, diag(gate) W_O^T W_O diag(gate), one row at a time."""
    layer, w_o, maps = captured()
    gate = torch.rand(HEADS, len(ROWS), D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gated = ValueRows.of(replace(layer, gate=gate), w_o.mT @ w_o, SCALING, INT4).error(maps)
    expected = torch.zeros(KV, dtype=torch.float64)
    for r in range(len(ROWS)):
        one = replace(layer, q=layer.q[:, r : r + 1], rows=ROWS[r : r + 1], out=layer.out[:, r : r + 1])
        through = w_o * gate[:, None, r]
        expected += ValueRows.of(one, through.mT @ through, SCALING, INT4).error(maps)
    assert torch.allclose(gated, expected)
