"""Presets say what their runtimes do, and the cache options spell the specs they promise."""

import itertools

import pytest
import torch

from qroar_core.errors import BadSpec
from qroar_core.models.families import FAMILIES
from qroar_core.models.family_preset import for_family
from qroar_core.quantizers.fake_quantize import fake_quantize
from qroar_core.quantizers.parse import parse_cache_option
from qroar_core.quantizers.presets import KV_PRESETS, WEIGHT_PRESETS, preset_names, preset_quant
from qroar_core.specs import QuantizerSpec, QuantSpec, WeightQuantSpec


@pytest.mark.parametrize("name", KV_PRESETS)
def test_every_cache_preset_quantizes_and_names_its_source(name):
    preset = KV_PRESETS[name]
    assert "/" in preset.source
    assert preset.note
    quant = preset_quant(name)
    assert (quant.k, quant.v, quant.name, quant.weights, quant.qk) == (preset.k, preset.v, name, None, None)
    x = torch.randn(2, 128, 64, generator=torch.Generator().manual_seed(0))
    for spec in (preset.k, preset.v):
        assert hash(spec) == hash(QuantizerSpec(**{f: getattr(spec, f) for f in spec.__dataclass_fields__}))
        absmax = x.abs().amax() if spec.needs_calibration else None
        error = (fake_quantize(x, spec, absmax=absmax) - x).square().mean().sqrt() / x.square().mean().sqrt()
        assert 1e-4 * 2 ** max(0, 11 - spec.bits) < error < 0.5
    assert repr(quant).startswith("QuantSpec(")
    assert preset.asked
    assert preset.what
    assert 0.05 < preset.bytes_per_token(128) / 512 <= 1


def test_more_bits_cost_less_within_a_runtime():
    x = torch.randn(2, 128, 64, generator=torch.Generator().manual_seed(1))
    errors = [(fake_quantize(x, KV_PRESETS[n].k) - x).square().mean() for n in ("q8_0", "q5_0", "q4_0", "kivi2")]
    assert all(a < b / 2 for a, b in itertools.pairwise(errors))


def test_what_each_runtime_is_known_to_do():
    q4, q8 = KV_PRESETS["q4_0"], KV_PRESETS["q8_0"]
    for spec in (q4.k, q4.v, q8.k, q8.v):
        assert (spec.scale, spec.group_size, spec.scale_dtype, spec.rotation) == (
            "block",
            32,
            "float16",
            "hadamard",
        )
        assert spec.rotation_least == 64
    assert (q4.k.rotation_block, q4.v.rotation_block) == (None, 64)
    assert (q4.k.channel_order, q4.v.channel_order) == ("interleaved", "model")
    assert KV_PRESETS["q4_0-norot"].k.rotation == KV_PRESETS["q8_0-norot"].v.rotation == "none"
    mlx, quanto, fp8, kivi = (KV_PRESETS[n] for n in ("mlx4", "quanto4", "fp8", "kivi2"))
    assert (mlx.k.bits, mlx.k.group_size, mlx.k.levels, mlx.k.rotation) == (4, 64, "mlx_affine", "none")
    assert (quanto.k.scale, quanto.k.group_size, quanto.k.residual) == ("block", 64, 128)
    assert (fp8.k.levels, fp8.k.static_scale) == ("e4m3", 1.0)
    assert (kivi.k.scale, kivi.k.group_size, kivi.k.residual, kivi.k.bits) == ("channel", 32, 128, 2)
    assert (kivi.v.scale, kivi.v.group_size, kivi.v.residual, kivi.v.bits) == ("block", 32, 128, 2)
    assert not any(p.k.before_rope for p in KV_PRESETS.values())


def test_llama_cpp_leaves_small_heads_unrotated():
    x = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(2))
    for name in ("q4_0", "q8_0"):
        for tensor in ("k", "v"):
            rotated, plain = (getattr(KV_PRESETS[n], tensor) for n in (name, f"{name}-norot"))
            assert torch.equal(fake_quantize(x, rotated), fake_quantize(x, plain))
            wide = torch.cat([x, x.flip(-1)], -1)  # head_dim 64 is rotated
            assert not torch.equal(fake_quantize(wide, rotated), fake_quantize(wide, plain))


def test_weight_preset():
    quant = preset_quant("w4a16")
    assert quant.weights == WeightQuantSpec(4, "group", 128, symmetric=True, full_range=True)
    assert (quant.k, quant.v) == (None, None)
    assert set(preset_names()) == set(KV_PRESETS) | set(WEIGHT_PRESETS)


# llama.cpp 2026-09, conversion/: registered with LlamaModel or a class that inherits its undo_permute = True
# (GraniteHybridModel, for Bamba too); every other family of ours is registered with a class that never permutes.
PERMUTED = {"llama", "mistral", "mixtral", "granite", "granitemoehybrid", "bamba", "smollm3"}


@pytest.mark.parametrize("family", sorted(family.name for family in FAMILIES))
def test_gguf_channel_order_follows_the_family(family):
    order = "interleaved" if family in PERMUTED else "model"
    quant = for_family(preset_quant("q4_0-norot"), family)
    assert quant.k.channel_order == order
    assert quant.v == KV_PRESETS["q4_0-norot"].v
    assert quant.name == "q4_0-norot"
    assert for_family(QuantSpec(), family) == QuantSpec()


# --- the command line's values ------------------------------------------------------------------------


def test_int4_is_symmetric_absmax_per_token_after_rope():
    assert parse_cache_option("int4", "k") == QuantizerSpec(4)
    spec = parse_cache_option(" INT8 ", "v")
    assert (spec.bits, spec.scale, spec.levels, spec.before_rope, spec.rotation) == (
        8,
        "token",
        "absmax",
        False,
        "none",
    )
    assert parse_cache_option("none", "k") is None
    assert parse_cache_option("none", "k", kv_scale="block", kv_rotation="hadamard") is None


def test_options_change_an_integer_cache():
    assert parse_cache_option("int4", "k", kv_scale="channel") == QuantizerSpec(4, scale="channel", group_size=32)
    assert parse_cache_option("int4", "v", kv_scale="block", group_size=64).group_size == 64
    assert parse_cache_option("int4", "k", kv_scale="block").group_size == 32
    assert parse_cache_option("int4", "k", kv_rotation="hadamard").rotation == "hadamard"
    assert parse_cache_option("int4", "k", kv_scale="tensor").needs_calibration


def test_a_preset_gives_each_tensor_its_own_quantizer():
    for name, preset in KV_PRESETS.items():
        assert (parse_cache_option(name, "k"), parse_cache_option(name, "v")) == (preset.k, preset.v)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(
            (text, "choose int2 to int8, or a runtime's cache: `qroar presets` lists all")
            for text in ("int9", "int1", "")
        ),
        ("int4 int4", "choose none, int2 to int8, or a runtime's cache: `qroar presets` lists all"),
        ("q4_2", "did you mean q4_1, q4_0 or iq4_nl? `qroar presets` lists all"),
        ("w4a16", "it is a format of weights: --weights w4a16"),
    ],
)
def test_unknown_values_name_the_nearest_or_where_all_are_listed(text, words):
    with pytest.raises(BadSpec) as caught:
        parse_cache_option(text, "v")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("--v: ")
    assert line.endswith(words)


def test_contradictions_are_refused():
    for options in ({"kv_scale": "token"}, {"group_size": 32}, {"kv_rotation": "none"}):
        with pytest.raises(BadSpec, match="brings its own"):
            parse_cache_option("q4_0", "k", **options)
    with pytest.raises(BadSpec, match="no meaning with --kv-scale token"):
        parse_cache_option("int4", "k", group_size=32)
    with pytest.raises(BadSpec, match="exclude each other"):
        parse_cache_option("int4", "k", kv_scale="channel", kv_rotation="hadamard")
    with pytest.raises(BadSpec, match="q4_0-norot"):
        preset_quant("q9_9")
