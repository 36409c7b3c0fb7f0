"""Scales on weights: what they leave unchanged, what they change by exactly g^2, and that they come off again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qroar_core.errors import BadScales
from qroar_core.interpolations.bands import band_of_channel, partition
from qroar_core.maths.rope import cos_sin, rotate
from qroar_core.models.patch import (
    apply_scales,
    quantized_parameters,
    replaced_parameters,
    scaled_parameters,
    undo_scales,
)
from qroar_core.models.stream import Condition, open_stream
from qroar_core.specs import BandSpec, WeightQuantSpec
from qroar_core.transforms.scales import Scales, channel_gains, from_nested, identity, pooled

FAMILIES = ["llama", "mistral", "qwen2"]
BANDS = ((0, 1), (2, 4), (5, 7))  # of 8 pairs


def random_g(layers, kv_heads, bands, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.exp2(3 * torch.randn(layers, kv_heads, bands, generator=generator, dtype=torch.float64))


def random_scales(mode="symmetric", seed=0, bands=BANDS):
    return Scales(mode, "kv_head", bands, random_g(2, 2, len(bands), seed))


def logits(q, k, inv_freq, pairing, queries_per_kv):
    """q.k of every head, query and key after RoPE: (heads, T, T), float64."""
    cos, sin = cos_sin(inv_freq, torch.arange(q.shape[1]) * 37, 1.1)
    q, k = rotate(q, cos, sin, pairing), rotate(k, cos, sin, pairing)
    return q @ k.repeat_interleave(queries_per_kv, 0).transpose(1, 2)


@settings(max_examples=40, deadline=None)
@given(
    pairing=st.sampled_from(["half", "interleaved"]),
    rest=st.sampled_from([0, 8]),
    seed=st.integers(0, 2**31),
)
def test_symmetric_scales_leave_float64_logits_alone_at_all_positions(pairing, rest, seed):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(4, 30, 16 + rest, generator=generator, dtype=torch.float64)
    k = torch.randn(2, 30, 16 + rest, generator=generator, dtype=torch.float64)
    inv_freq = torch.rand(8, generator=generator, dtype=torch.float64)
    scales = random_scales(seed=seed)
    on_q, on_k = (gain[1][:, None] for gain in channel_gains(scales, 16 + rest, 16, pairing, 4))
    before = logits(q, k, inv_freq, pairing, 2)
    bound = 1e-10 * (q.norm(dim=-1).max() * k.norm(dim=-1).max())
    assert (logits(q * on_q, k * on_k, inv_freq, pairing, 2) - before).abs().max() < bound
    assert (logits(q * on_q, k, inv_freq, pairing, 2) - before).abs().max() > 1e-3  # one-sided is wrong
    other = "half" if pairing == "interleaved" else "interleaved"
    wrong_q, wrong_k = (gain[1][:, None] for gain in channel_gains(scales, 16 + rest, 16, other, 4))
    assert (logits(q * wrong_q, k * wrong_k, inv_freq, pairing, 2) - before).abs().max() > 1e-3  # so is the pairing


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_shared_scales_multiply_each_bands_part_by_g_squared(pairing):
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(4, 30, 20, generator=generator, dtype=torch.float64)
    k = torch.randn(2, 30, 20, generator=generator, dtype=torch.float64)
    inv_freq, scales = torch.rand(8, generator=generator, dtype=torch.float64), random_scales("shared")
    on_q, on_k = (gain[0][:, None] for gain in channel_gains(scales, 20, 16, pairing, 4))
    channel_band = band_of_channel(BANDS, 20, 16, pairing)
    total = torch.zeros(4, 30, 30, dtype=torch.float64)
    for band in (-1, 0, 1, 2):
        only = (channel_band == band).double()
        part = logits(q * only, k * only, inv_freq, pairing, 2)
        factor = scales.g[0, :, band].square().repeat_interleave(2)[:, None, None] if band >= 0 else 1.0
        got = logits(q * on_q * only, k * on_k * only, inv_freq, pairing, 2)
        torch.testing.assert_close(got, part * factor, rtol=1e-11, atol=1e-9)
        total += part * factor
    torch.testing.assert_close(logits(q * on_q, k * on_k, inv_freq, pairing, 2), total, rtol=1e-11, atol=1e-9)


class Logits:
    """q.k of every layer, head, query and key, from the taps of a one-chunk stream."""

    def __init__(self):
        self.by_layer = []

    def on_attention(self, tap):
        k = tap.k_seen.repeat_interleave(len(tap.q) // len(tap.k), 0)
        self.by_layer.append(tap.q @ k.transpose(1, 2))

    def on_layer(self, layer, row, start, hidden):
        pass


def attention_logits(loaded, tokens, scales=None):
    seen = Logits()
    with open_stream(loaded, Condition(scales=scales), len(tokens)) as stream:
        hidden = torch.cat([piece.hidden for piece in stream.run(tokens, (seen,))], 1)
    return torch.stack(seen.by_layer), hidden


@pytest.mark.parametrize("family", FAMILIES)
def test_a_models_logits_stay_in_float64(tiny, ids, family):
    loaded, tokens = tiny(family, torch.float64), ids(90)
    before, hidden = attention_logits(loaded, tokens)
    after, hidden_after = attention_logits(loaded, tokens, random_scales())
    size = before.abs().max()
    assert (after - before).abs().max() < 1e-10 * size
    assert (hidden_after - hidden).abs().max() < 1e-9
    changed, _ = attention_logits(loaded, tokens, random_scales("shared"))
    assert (changed - before).abs().max() > 1e-2 * size


@pytest.mark.parametrize("family", FAMILIES)
def test_a_float32_models_output_stays(tiny, ids, family):
    loaded, tokens = tiny(family), ids(1, 90)
    with torch.inference_mode():
        before = loaded.model(tokens).logits
        apply_scales(loaded, random_scales())
        after = loaded.model(tokens).logits
        for _, key in loaded.slots():
            loaded.model.get_parameter(key.weight).data *= 1.01
        one_sided = loaded.model(tokens).logits
    assert (after - before).abs().max() < 2e-5 * before.abs().max()
    assert (one_sided - before).abs().max() > 1e-3


def test_without_its_biases_a_scaled_qwen2_is_wrong(tiny, ids):
    loaded, tokens = tiny("qwen2", torch.float64), ids(40)
    before, _ = attention_logits(loaded, tokens)
    new = scaled_parameters(loaded, random_scales())
    assert sorted(name.split(".", 3)[-1] for name in new if ".0." in name) == [
        "self_attn.k_proj.bias",
        "self_attn.k_proj.weight",
        "self_attn.q_proj.bias",
        "self_attn.q_proj.weight",
    ]
    with replaced_parameters(loaded.model, {name: tensor for name, tensor in new.items() if not name.endswith("bias")}):
        forgotten, _ = attention_logits(loaded, tokens)
    assert (forgotten - before).abs().max() > 1e-2


@pytest.mark.parametrize("mode", ["symmetric", "shared"])
def test_rows_get_the_gain_of_their_head_and_band(tiny, mode):
    """Row by row from the definition: query head h reads KV head h // 2, channel c has pair c % 8."""
    loaded, scales = tiny("qwen2", torch.float64), random_scales(mode)
    new = scaled_parameters(loaded, scales)
    band_of = [0, 0, 1, 1, 1, 2, 2, 2]
    for layer in (0, 1):
        attention = loaded.model.model.layers[layer].self_attn
        for name, module, per_kv in (("q_proj", attention.q_proj, 2), ("k_proj", attention.k_proj, 1)):
            stem = f"model.layers.{layer}.self_attn.{name}"
            for row in range(module.weight.shape[0]):
                g = float(scales.g[layer, row // 16 // per_kv, band_of[row % 16 % 8]])
                gain = 1 / g if (name, mode) == ("k_proj", "symmetric") else g
                torch.testing.assert_close(new[f"{stem}.weight"][row], module.weight[row] * gain, rtol=1e-15, atol=0)
                torch.testing.assert_close(new[f"{stem}.bias"][row], module.bias[row] * gain, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_apply_and_undo_bit_for_bit(tiny, dtype):
    loaded = tiny("qwen2", dtype)

    def weights():
        return {name: p.detach().clone() for name, p in loaded.model.named_parameters()}

    def equal(a, b):
        return all(torch.equal(a[name], b[name]) for name in a)

    original = weights()
    undo_scales(loaded)
    assert equal(weights(), original)
    apply_scales(loaded, random_scales(seed=1))
    once = weights()
    apply_scales(loaded, random_scales(seed=2))  # not on top of the first
    apply_scales(loaded, random_scales(seed=1))
    assert equal(weights(), once)
    assert not equal(once, original)
    assert all(p.dtype == dtype for p in loaded.model.parameters())
    undo_scales(loaded)
    undo_scales(loaded)
    assert equal(weights(), original)
    assert loaded.applied is None


def test_refused_scales_leave_applied_ones_in_place(tiny):
    loaded, good = tiny(), random_scales()
    apply_scales(loaded, good)
    before = {name: p.data_ptr() for name, p in loaded.model.named_parameters()}
    with pytest.raises(BadScales):
        apply_scales(loaded, identity(3, 2, BANDS))
    assert loaded.applied is good
    assert {name: p.data_ptr() for name, p in loaded.model.named_parameters()} == before


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (identity(3, 2, BANDS), r"\(3, 2\), this model has \(2, 2\)"),
        (identity(2, 4, BANDS), r"\(2, 4\)"),
        (identity(2, 2, ((0, 1), (2, 6))), "8 RoPE pairs"),
        (identity(2, 2, ((0, 3), (3, 7))), "once each"),
        (identity(2, 2, ((4, 7), (0, 3))), "once each"),
        (identity(2, 2, ((0, 8),)), "once each"),
    ],
)
def test_scales_of_another_model_are_refused(tiny, scales, message):
    loaded = tiny()
    with pytest.raises(BadScales, match=message):
        apply_scales(loaded, scales)
    assert loaded.applied is None


@pytest.mark.parametrize(
    ("shape", "value"), [((2, 3), 1.0), ((2, 2, 4), 1.0), ((2, 2, 3), 0.0), ((2, 2, 3), -1.0), ((2, 2, 3), torch.nan)]
)
def test_impossible_scales_cannot_be_built(shape, value):
    g = torch.ones(shape, dtype=torch.float64)
    g[-1] = value
    with pytest.raises(BadScales):
        Scales("symmetric", "kv_head", BANDS, g)


@settings(max_examples=40, deadline=None)
@given(
    granularity=st.sampled_from(["model", "layer", "kv_head"]),
    layers=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    bands=st.integers(1, 8),
    seed=st.integers(0, 2**31),
)
def test_nested_and_back(granularity, layers, kv_heads, bands, seed):
    edges = partition(10_000.0 ** -(torch.arange(8).double() / 8), 64, BandSpec(bands))
    g = torch.exp2(pooled(random_g(layers, kv_heads, bands, seed).log2(), granularity))
    scales = Scales("shared", granularity, edges, g.contiguous())
    nested = scales.nested()
    depth, inner = 0, nested
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]
    assert depth == {"model": 1, "layer": 2, "kv_head": 3}[granularity]
    back = from_nested(nested, "shared", granularity, edges, layers, kv_heads)
    assert torch.equal(back.g, scales.g)
    assert (back.mode, back.granularity, back.bands) == (scales.mode, scales.granularity, scales.bands)
    with pytest.raises(BadScales):
        from_nested([nested], "shared", granularity, edges, layers, kv_heads)
    with pytest.raises(BadScales):
        from_nested("nonsense", "shared", granularity, edges, layers, kv_heads)


def test_quantized_weights_come_from_the_scaled_ones_and_go_away(tiny, ids):
    loaded, spec = tiny("qwen2"), WeightQuantSpec(4, "tensor")
    names = {name for name, p in loaded.model.named_parameters() if ".layers." in name and p.ndim == 2}
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    scaled = scaled_parameters(loaded, random_scales())
    new = quantized_parameters(loaded, spec, scaled)
    assert {name for name in new if not name.endswith("bias")} == names  # every decoder linear, nothing else
    for name in names:
        source = scaled.get(name, before[name])
        step = source.abs().max() / 7
        codes = new[name] / step
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)
        assert ((new[name] - source).abs() <= step / 2 * (1 + 1e-5)).all()
    with replaced_parameters(loaded.model, new):
        assert all(loaded.model.get_parameter(name).data_ptr() == tensor.data_ptr() for name, tensor in new.items())
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())


def test_the_planted_band_is_invisible_until_k_is_rounded(planted, ids):
    """The fixture is what it says: same logits, worse int4 cache, and g = factor mends it."""
    from qroar_core.specs import QuantizerSpec, QuantSpec

    case, tokens = planted(dtype=torch.float64), ids(60)

    def last(loaded, condition=None):
        with open_stream(loaded, condition or Condition(), len(tokens)) as stream:
            return torch.cat([piece.hidden for piece in stream.run(tokens)], 1)

    torch.testing.assert_close(last(case.loaded), last(case.plain), rtol=0, atol=1e-9)
    exact, int4 = last(case.plain), QuantSpec(k=QuantizerSpec(4))
    repair = identity(2, 2, case.bands)
    repair.g[case.layer, case.kv_head, case.band] = case.factor
    errors = [
        float((last(loaded, Condition(quant=int4, scales=scales)) - exact).square().mean())
        for loaded, scales in ((case.plain, None), (case.loaded, None), (case.loaded, repair))
    ]
    assert errors[1] > 2 * errors[0]
    assert errors[2] == pytest.approx(errors[0], rel=1e-6)
