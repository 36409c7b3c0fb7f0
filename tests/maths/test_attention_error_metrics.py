"""The four attention error metrics against loops over rows and keys in plain Python floats."""

import math
from dataclasses import replace

import pytest
import torch

from qroar_core.maths.attention_error import CapturedLayer, ErrorSetup, attention_error
from qroar_core.maths.softmax_rule import SoftmaxRule
from qroar_core.specs import ERROR_METRICS, QuantizerSpec, QuantSpec

HEADS, KV, TOKENS, D = 4, 2, 12, 8
ROWS = torch.tensor([5, 9, 11])
LOG2_G = torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64)


PLAIN = SoftmaxRule()


def case(rule=PLAIN):
    generator = torch.Generator().manual_seed(0)
    q, k, v, out = (
        torch.randn(n, t, D, generator=generator, dtype=torch.float64)
        for n, t in ((HEADS, 3), (KV, TOKENS), (KV, TOKENS), (HEADS, 3))
    )
    metric = torch.randn(HEADS, D, D, generator=generator, dtype=torch.float64)
    band = torch.tensor([0, 0, 1, 1] * 2)
    setup = ErrorSetup(
        QuantSpec(k=QuantizerSpec(4)),
        "symmetric",
        band,
        0.4,
        "half",
        torch.ones(TOKENS, D // 2),
        torch.zeros(TOKENS, D // 2),
        "rows",
    )
    return CapturedLayer(q, ROWS, k, v, out, rule), metric @ metric.mT, setup


def softmax(values):
    top = max(values)
    total = sum(math.exp(v - top) for v in values)
    return [math.exp(v - top) / total for v in values]


def rounded(x, bits):
    step = max(map(abs, x)) / (2 ** (bits - 1) - 1)
    return [step * round(v / step) for v in x]


def by_hand(layer, metric, setup, rule):
    """Loops: each query head, each row, each key it sees; keys of a row's own block of `residual` are not rounded."""
    active = setup.quant.qk
    found = {error_metric: [0.0] * KV for error_metric in ERROR_METRICS}
    for head in range(HEADS):
        kv = head // (HEADS // KV)
        g = [2.0 ** float(LOG2_G[kv, b]) for b in setup.band.tolist()]
        for r, row in enumerate(ROWS.tolist()):
            q = layer.q[head, r].tolist()
            q_hat = [a * y for a, y in zip(q, g, strict=True)]
            q_hat = rounded(q_hat, active.bits) if active else q_hat
            first_exact = row + 1 if not setup.quant.k.residual else row - row % setup.quant.k.residual
            plain, damaged, values = [], [], []
            for m in range(max(0, row + 1 - (rule.window or TOKENS)), row + 1):
                k = layer.k[kv, m].tolist()
                shrunk = [x / y for x, y in zip(k, g, strict=True)]
                stored = shrunk if m >= first_exact else rounded(shrunk, setup.quant.k.bits)
                stored = rounded(stored, active.bits) if active else stored
                plain.append(setup.scaling * sum(a * b for a, b in zip(q, k, strict=True)))
                damaged.append(setup.scaling * sum(a * b for a, b in zip(q_hat, stored, strict=True)))
                values.append(layer.v[kv, m].tolist())
            found["logits"][kv] += sum((a - b) ** 2 for a, b in zip(plain, damaged, strict=True)) / len(plain)
            cap, sink = rule.softcap or 1e9, [] if rule.sinks is None else [float(rule.sinks[head])]
            p, p_hat = (softmax([cap * math.tanh(x / cap) for x in seen] + sink) for seen in (plain, damaged))
            found["rows"][kv] += sum(a * math.log(a / b) for a, b in zip(p, p_hat, strict=True))
            moved = [sum(w * v[c] for w, v in zip(p_hat, values)) - float(layer.out[head, r, c]) for c in range(D)]
            found["output"][kv] += sum(x * x for x in moved)
            found["projected"][kv] += sum(
                moved[a] * float(metric[head, a, b]) * moved[b] for a in range(D) for b in range(D)
            )
    return found


RULES = {
    "plain": PLAIN,
    "window": SoftmaxRule(window=4),
    "cap": SoftmaxRule(softcap=1.5),
    "sinks": SoftmaxRule(sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_judge_by_its_definition(rule):
    layer, metric, setup = case(rule)
    wanted = by_hand(layer, metric, setup, rule)
    for error_metric in ERROR_METRICS:
        found = attention_error(layer, LOG2_G, metric, replace(setup, error_metric=error_metric))
        assert found.sum(1).tolist() == pytest.approx(wanted[error_metric], rel=1e-9), error_metric
        some = attention_error(
            layer, LOG2_G, metric, replace(setup, error_metric=error_metric), pick=torch.tensor([0, 2])
        )
        assert torch.allclose(some, found[:, [0, 2]], rtol=1e-9), error_metric


HELD = {
    "block of 4": QuantSpec(k=QuantizerSpec(4, residual=4)),  # the rows' own block begins at 4, 8 and 8
    "block of 6": QuantSpec(k=QuantizerSpec(4, residual=6)),  # row 5 reads all of its keys exactly
    "block of 4, q and k": QuantSpec(k=QuantizerSpec(4, residual=4), qk=QuantizerSpec(5)),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", HELD)
def test_keys_that_the_cache_still_holds_exactly_are_not_counted_as_rounded(name, rule):
    layer, metric, setup = case(rule)
    setup = replace(setup, quant=HELD[name])
    wanted = by_hand(layer, metric, setup, rule)
    for error_metric in ERROR_METRICS:
        found = attention_error(layer, LOG2_G, metric, replace(setup, error_metric=error_metric))
        assert found.sum(1).tolist() == pytest.approx(wanted[error_metric], rel=1e-9), error_metric
        some = attention_error(
            layer, LOG2_G, metric, replace(setup, error_metric=error_metric), pick=torch.tensor([0, 2])
        )
        assert torch.allclose(some, found[:, [0, 2]], rtol=1e-9, atol=1e-15), error_metric
        if error_metric in ("logits", "rows") and name == "block of 6":
            assert found[:, 0].tolist() == pytest.approx([0, 0], abs=1e-12)
            if rule.window is None:  # within a window of 4 tokens row 9 sees none but those of its own block
                assert float(found[:, 1].min()) > 1e-4


@pytest.mark.parametrize("error_metric", ERROR_METRICS)
def test_every_judge_has_a_gradient(error_metric):
    """Oracle: central differences without rounding, where nothing is straight-through: shared scales move logits."""
    layer, metric, setup = case()
    smooth = replace(setup, quant=QuantSpec(), mode="shared", error_metric=error_metric)

    def value(x):
        return attention_error(layer, x, metric, smooth).sum()

    x = LOG2_G.clone().requires_grad_(True)
    value(x).backward()
    for at in ((0, 0), (1, 1)):
        step = torch.zeros_like(LOG2_G)
        step[at] = 1e-5
        slope = float(value(LOG2_G + step) - value(LOG2_G - step)) / 2e-5
        assert float(x.grad[at]) == pytest.approx(slope, rel=1e-5)


def test_the_kl_of_rows_keeps_its_digits_and_its_head():
    """Oracle: float64. Moves of a logit by 1e-4, where two logarithms would cancel, and by 1,000, where e^x ends."""
    layer, metric, setup = case()
    rows = replace(setup, error_metric="rows", quant=QuantSpec(), mode="shared")
    small = torch.full((KV, 2), 1e-4, dtype=torch.float64)
    exact = attention_error(layer, small, metric, rows)
    single = replace(layer, q=layer.q.float(), k=layer.k.float(), v=layer.v.float(), out=layer.out.float())
    found = attention_error(single, small.float(), metric.float(), rows)
    assert torch.allclose(found.double(), exact, rtol=1e-3)
    assert exact.max() < 1e-6
    assert attention_error(single, torch.full((KV, 2), 5.0), metric.float(), rows).isfinite().all()
