"""Quantized streams against a dense float64 model that shares no code with them.

The oracle below is a whole decoder written again: complex numbers for RoPE, one query at a time,
brute-force nearest levels, and for each query the keys and values as a real cache would return them.
"""

from __future__ import annotations

import numpy
import pytest
import scipy.linalg
import torch

from qroar_core.models.calibrate import calibrated, needs_calibration
from qroar_core.models.condition import StaticRange
from qroar_core.models.stream import Condition, open_stream
from qroar_core.specs import QuantizerSpec, QuantSpec, RopeSpec

LENGTH = 43  # a multiple of no chunk and no block below


def nearest(x, absmax, bits):
    """Brute force: the closest of the levels -qmax..qmax times absmax / qmax; absmax broadcasts to x."""
    qmax = 2 ** (bits - 1) - 1
    levels = torch.arange(-qmax, qmax + 1, dtype=torch.float64) * (absmax / qmax)[..., None]  # (..., 2 qmax + 1)
    at = (x[..., None] - levels).abs().argmin(-1, keepdim=True)
    return levels.expand(*x.shape, -1).gather(-1, at)[..., 0]


def per_token(bits):
    return lambda x: nearest(x, x.abs().amax(-1, keepdim=True), bits)


def per_block(bits, size):
    return lambda x: torch.cat([per_token(bits)(part) for part in x.split(size, -1)], -1)


def rotated(bits):
    def rounded(x):
        h = torch.from_numpy(scipy.linalg.hadamard(x.shape[-1]) / x.shape[-1] ** 0.5)
        return per_token(bits)(x @ h) @ h.T

    return rounded


def residual(block, rounded):
    """Query t (the last row) sees complete blocks before its own rounded, and its own block raw."""

    def seen(x):
        full = (len(x) - 1) // block * block
        return torch.cat([*(rounded(part) for part in x[:full].split(block)), x[full:]]) if full else x

    return seen


def per_channel(bits, group):
    def rounded(x):
        return torch.cat([nearest(part, part.abs().amax(0, keepdim=True), bits) for part in x.split(group)])

    return rounded


def same(x):
    return x


def dense_hidden(loaded, tokens, k=same, v=same, q=same, k_active=same, before_rope=False):
    """Final hidden states (T, hidden). k, v: rows 0..t of one head -> what query t sees of them."""
    geo, body = loaded.geometry, loaded.model.model
    eps = loaded.model.config.rms_norm_eps
    cos, sin = body.rotary_emb(torch.zeros(1, dtype=torch.float64), torch.arange(len(tokens))[None])
    half = geo.head_dim // 2
    phase = torch.complex(cos[0, :, :half], sin[0, :, :half])  # (T, pairs)

    def turn(x, at):  # (n, head_dim) at positions `at`
        z = torch.complex(x[:, :half], x[:, half:]) * phase[at]
        return torch.cat((z.real, z.imag), -1)

    def norm(x, gain):
        return torch.stack([row / (row.dot(row) / len(row) + eps).sqrt() * gain for row in x])

    everyone = torch.arange(len(tokens))
    x = body.embed_tokens.weight[tokens]
    for layer in body.layers:
        attention, has_qk_norm = layer.self_attn, norm(x, layer.input_layernorm.weight)
        heads = []
        turning = (attention.q_proj, True), (attention.k_proj, not before_rope), (attention.v_proj, False)
        for projection, turned in turning:
            flat = has_qk_norm @ projection.weight.T + (0 if projection.bias is None else projection.bias)
            heads.append([turn(h, everyone) if turned else h for h in flat.split(geo.head_dim, -1)])
        queries, keys, values = heads
        out = torch.zeros(len(tokens), geo.n_heads, geo.head_dim, dtype=torch.float64)
        for t in range(len(tokens)):
            for kv in range(geo.n_kv_heads):
                seen_k, seen_v = k(keys[kv][: t + 1]), v(values[kv][: t + 1])
                if before_rope:
                    seen_k = turn(seen_k, everyone[: t + 1])
                seen_k = k_active(seen_k)
                for head in range(kv * geo.queries_per_kv, (kv + 1) * geo.queries_per_kv):
                    logits = seen_k @ q(queries[head][t : t + 1])[0] / geo.head_dim**0.5
                    weights = (logits - logits.max()).exp()
                    out[t, head] = weights / weights.sum() @ seen_v
        x = x + out.flatten(1) @ attention.o_proj.weight.T
        has_qk_norm = norm(x, layer.post_attention_layernorm.weight)
        gate, up = has_qk_norm @ layer.mlp.gate_proj.weight.T, has_qk_norm @ layer.mlp.up_proj.weight.T
        x = x + (gate * gate.sigmoid() * up) @ layer.mlp.down_proj.weight.T
    return norm(x, body.norm.weight)


def streamed(loaded, tokens, chunk, condition):
    with open_stream(loaded, condition, LENGTH, chunk=chunk) as stream:
        return torch.cat([piece.hidden[0] for piece in stream.run(tokens)])


int4, int8 = QuantizerSpec(4), QuantizerSpec(8)
kivi = QuantizerSpec(4, "channel", group_size=4, residual=8)
CASES = {  # the quantizers, and the same as the oracle spells them
    "none": (QuantSpec(), {}),
    "k and v per token": (QuantSpec(k=int4, v=int4), {"k": per_token(4), "v": per_token(4)}),
    "k before rope": (
        QuantSpec(k=QuantizerSpec(4, before_rope=True)),
        {"k": per_token(4), "before_rope": True},
    ),
    "k hadamard": (QuantSpec(k=QuantizerSpec(4, rotation="hadamard")), {"k": rotated(4)}),
    "blocks of channels": (QuantSpec(k=QuantizerSpec(4, "block", group_size=8)), {"k": per_block(4, 8)}),
    "kivi": (
        QuantSpec(k=kivi, v=QuantizerSpec(3, residual=8)),
        {"k": residual(8, per_channel(4, 4)), "v": residual(8, per_token(3))},
    ),
    "kivi before rope": (
        QuantSpec(k=QuantizerSpec(4, "channel", group_size=4, residual=8, before_rope=True)),
        {"k": residual(8, per_channel(4, 4)), "before_rope": True},
    ),
    "blocks that don't divide each other": (
        QuantSpec(k=QuantizerSpec(3, residual=12), v=QuantizerSpec(3, residual=8)),
        {"k": residual(12, per_token(3)), "v": residual(8, per_token(3))},
    ),
    "q and k activations": (QuantSpec(qk=int8), {"q": per_token(8), "k_active": per_token(8)}),
    "activations over a quantized cache": (
        QuantSpec(k=kivi, qk=QuantizerSpec(5)),
        {"k": residual(8, per_channel(4, 4)), "q": per_token(5), "k_active": per_token(5)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_quantized_stream_equals_a_dense_float64_model(tiny, ids, case):
    family = "qwen2" if "kivi" in case else "llama"
    loaded, tokens, (quant, oracle) = tiny(family, torch.float64), ids(LENGTH), CASES[case]
    with torch.inference_mode():
        expected = dense_hidden(loaded, tokens, **oracle)
        exact = dense_hidden(loaded, tokens)
    for chunk in (LENGTH, 16, 5):
        got = streamed(loaded, tokens, chunk, Condition(quant=quant))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-9, msg=lambda m, c=chunk: f"chunk {c}: {m}")
    assert ((got - exact).abs().max() > 1e-3) == (not quant.is_none)


def test_query_blocks_do_not_move_the_rounding(tiny, ids, monkeypatch):
    loaded, tokens = tiny(dtype=torch.float64), ids(LENGTH)
    condition = Condition(quant=CASES["blocks that don't divide each other"][0])
    expected = streamed(loaded, tokens, 16, condition)
    monkeypatch.setattr("qroar_core.models.attention.MASK_ENTRIES", 100)
    torch.testing.assert_close(streamed(loaded, tokens, 16, condition), expected, rtol=0, atol=1e-9)


def test_what_observers_see_is_what_the_cache_holds(tiny, ids):
    loaded, tokens, taps = tiny(dtype=torch.float64), ids(LENGTH), []

    class Watch:
        def on_attention(self, tap):
            taps.append((tap.layer, tap.start, tap.k.clone(), tap.k_seen.clone(), tap.v.clone(), tap.v_seen.clone()))

        def on_layer(self, layer, row, start, hidden):
            pass

    with open_stream(loaded, Condition(quant=QuantSpec(k=int4, v=int8)), LENGTH, chunk=20) as stream:
        list(stream.run(tokens, (Watch(),)))
    assert [tap[:2] for tap in taps] == [(layer, start) for start in (0, 20, 40) for layer in (0, 1)]
    for layer in (0, 1):
        k, v = (torch.cat([tap[i] for tap in taps if tap[0] == layer], dim=1) for i in (2, 4))
        last = [tap for tap in taps if tap[0] == layer][-1]
        torch.testing.assert_close(last[3], per_token(4)(k), rtol=0, atol=1e-12)
        torch.testing.assert_close(last[5], per_token(8)(v), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rotation", "before_rope"), [("none", False), ("none", True), ("hadamard", False)])
def test_static_scales_are_calibrated_on_the_axes_that_are_rounded(tiny, ids, rotation, before_rope):
    loaded, tokens = tiny(dtype=torch.float64), ids(LENGTH)
    static4 = QuantizerSpec(4, "tensor", before_rope=before_rope, rotation=rotation, channel_order="interleaved")
    quant = QuantSpec(k=static4, qk=QuantizerSpec(8, "tensor"))
    assert needs_calibration(quant)
    condition = calibrated(loaded, Condition(RopeSpec("yarn", 2.0), quant), tokens, chunk=10)
    seen = {"k": [[], []], "q": [[], []], "active": [[], []]}

    class Watch:
        def on_attention(self, tap):
            k = tap.k
            if before_rope:
                c, s = torch.cat((tap.cos, tap.cos), -1), torch.cat((tap.sin, tap.sin), -1)
                back = torch.cat((k[..., 8:], -k[..., :8]), -1)
                k = (k * c + back * s) / (c.square() + s.square())
            if rotation == "hadamard":
                order = [i // 2 + 8 * (i % 2) for i in range(16)]
                k = k[..., order] @ torch.from_numpy(scipy.linalg.hadamard(16) / 4.0)
            for name, x in (("k", k), ("q", tap.q), ("active", tap.k)):
                seen[name][tap.layer].append(float(x.abs().max()))

        def on_layer(self, layer, row, start, hidden):
            pass

    with open_stream(loaded, Condition(RopeSpec("yarn", 2.0)), LENGTH) as stream:
        list(stream.run(tokens, (Watch(),)))
    ranges = condition.static
    for table, name in ((ranges.k, "k"), (ranges.q, "q"), (ranges.k_active, "active")):
        numpy.testing.assert_allclose(table.tolist(), [max(layer) for layer in seen[name]], rtol=1e-6)


def test_a_static_scale_clips_what_exceeds_it(tiny, ids):
    loaded, tokens, absmax = tiny(dtype=torch.float64), ids(LENGTH), 0.75
    condition = Condition(quant=QuantSpec(k=QuantizerSpec(4, "tensor")), static=StaticRange(k=torch.full((2,), absmax)))
    with torch.inference_mode():
        expected = dense_hidden(loaded, tokens, k=lambda x: nearest(x, torch.tensor([absmax], dtype=torch.float64), 4))
    torch.testing.assert_close(streamed(loaded, tokens, 9, condition), expected, rtol=0, atol=1e-9)
