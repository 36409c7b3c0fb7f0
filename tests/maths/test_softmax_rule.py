"""Windows, caps and sinks: attention weights, the cached objective's output and the KL, from plain Python loops."""

from __future__ import annotations

import math

import pytest
import torch

from qroar_core.diagnostics.logit_noise.measure import LogitNoiseMeter
from qroar_core.maths.attention_error import output_of
from qroar_core.maths.softmax_rule import USUAL_SOFTMAX, SoftmaxRule

KV, GROUP, KEYS, D = 2, 3, 9, 4
ROWS = (0, 3, 8)
SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, -0.5], dtype=torch.float64)
RULES = {
    "plain": USUAL_SOFTMAX,
    "window": SoftmaxRule(window=4),
    "one key": SoftmaxRule(window=1),
    "cap": SoftmaxRule(softcap=1.5),
    "sinks": SoftmaxRule(sinks=SINKS),
    "all": SoftmaxRule(window=3, softcap=2.0, sinks=SINKS),
}
ALL = pytest.mark.parametrize("name", RULES)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(logits, row, head, rule):
    """Weights of one row: {key: weight}; what is left of 1 went to the sink."""
    seen = [n for n in range(row + 1) if rule.window is None or n > row - rule.window]
    bent = {n: rule.softcap * math.tanh(logits[n] / rule.softcap) if rule.softcap else logits[n] for n in seen}
    sink = 0.0 if rule.sinks is None else math.exp(float(rule.sinks[head]))
    total = sum(math.exp(x) for x in bent.values()) + sink
    return {n: math.exp(x) / total for n, x in bent.items()}


@ALL
def test_weights_from_the_definition(name):
    logits, rule = 2 * draw(KV, GROUP, len(ROWS), KEYS), RULES[name]
    weights = rule.weights(logits, torch.tensor(ROWS)[:, None] - torch.arange(KEYS)[None])
    for kv in range(KV):
        for j in range(GROUP):
            for r, row in enumerate(ROWS):
                wanted = by_hand(logits[kv, j, r].tolist(), row, kv * GROUP + j, rule)
                for n in range(KEYS):
                    assert float(weights[kv, j, r, n]) == pytest.approx(wanted.get(n, 0.0), rel=1e-12, abs=1e-15)


@ALL
def test_the_cached_output_follows_the_rule(name):
    q, k, v, rule = draw(KV * GROUP, len(ROWS), D), draw(KV, KEYS, D, seed=1), draw(KV, KEYS, D, seed=2), RULES[name]
    found = output_of(q, torch.tensor(ROWS), k, v, 0.7, rule)
    for head in range(KV * GROUP):
        for r, row in enumerate(ROWS):
            logits = [0.7 * float(q[head, r] @ k[head // GROUP, n]) for n in range(KEYS)]
            wanted = sum(w * v[head // GROUP, n] for n, w in by_hand(logits, row, head, rule).items())
            torch.testing.assert_close(found[head, r], wanted, rtol=0, atol=1e-12)


@ALL
@pytest.mark.parametrize("key_block", [2, 100])
def test_the_kl_of_attention_rows_follows_the_rule(name, key_block):
    """KL over the keys and, where there is one, the sink's entry."""
    q, k, rule = draw(KV * GROUP, len(ROWS), D), draw(KV, KEYS, D, seed=1), RULES[name]
    k_hat = k + 0.2 * draw(KV, KEYS, D, seed=3)
    meter = LogitNoiseMeter(torch.tensor([0, 1, 0, 1]), KEYS, 0.7, rule)
    meter.update(q, torch.tensor(ROWS), k, k_hat, key_block=key_block)
    found = meter.result()
    for r, row in enumerate(ROWS):
        kls, squares = [], []
        for head in range(KV * GROUP):
            pair = [[0.7 * float(q[head, r] @ x[head // GROUP, n]) for n in range(KEYS)] for x in (k, k_hat)]
            p, p_hat = (by_hand(logits, row, head, rule) for logits in pair)
            kl = sum(w * math.log(w / p_hat[n]) for n, w in p.items())
            if rule.sinks is not None:
                rest, rest_hat = 1 - sum(p.values()), 1 - sum(p_hat.values())
                kl += rest * math.log(rest / rest_hat)
            kls.append(kl)
            squares += [(pair[1][n] - pair[0][n]) ** 2 for n in p]
        assert float(found.kl[r]) == pytest.approx(sum(kls) / len(kls), rel=1e-4, abs=1e-7)
        assert float(found.rms[r]) == pytest.approx(math.sqrt(sum(squares) / len(squares)), rel=1e-5)
