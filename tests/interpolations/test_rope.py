"""Frequencies against transformers' own modules, static NTK against float64, rotation against complex numbers."""

from __future__ import annotations

import cmath
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qroar_core.errors import BadSpec
from qroar_core.interpolations.frequencies import native_inv_freq, rope_of, rope_set
from qroar_core.maths.rope import cos_sin, pair_index, pair_norm, rotate, unrotate
from qroar_core.specs import RopeSpec

LISTS = {"long_factor": tuple(1 + 0.4 * i for i in range(8)), "short_factor": tuple(1 + 0.1 * i for i in range(8))}
PARAMETERS = {  # method -> (what the spec asks, what a transformers config says for the same)
    "linear": (RopeSpec("linear", 4.0), {"factor": 4.0}),
    "dynamic": (RopeSpec("dynamic", 4.0), {"factor": 4.0}),
    "dynamic, window 32": (RopeSpec("dynamic", 4.0, original_context=32), {"factor": 4.0, "window": 32}),
    "yarn": (
        RopeSpec("yarn", 4.0, original_context=2048),  # long enough for both betas to bind
        {"factor": 4.0, "original_max_position_embeddings": 2048, "beta_fast": 32.0, "beta_slow": 1.0},
    ),
    "yarn, own betas": (
        RopeSpec("yarn", 4.0, original_context=2048, beta_fast=100.0, beta_slow=0.25),
        {"factor": 4.0, "original_max_position_embeddings": 2048, "beta_fast": 100.0, "beta_slow": 0.25},
    ),
    "yarn, attention factor": (
        RopeSpec("yarn", 4.0, original_context=2048, attention_factor=1.3),
        {"factor": 4.0, "original_max_position_embeddings": 2048, "attention_factor": 1.3},
    ),
    "longrope, attention factor": (
        RopeSpec("longrope", 4.0, attention_factor=1.25, **LISTS),
        {"factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.25}
        | {k: list(v) for k, v in LISTS.items()},
    ),
    "longrope": (
        RopeSpec("longrope", 4.0, **LISTS),
        {"factor": 4.0, "original_max_position_embeddings": 64} | {k: list(v) for k, v in LISTS.items()},
    ),
    "llama3": (
        RopeSpec("llama3", 8.0, original_context=32),
        {
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
    ),
    "default": (RopeSpec(), {}),
}


def module_of_transformers(loaded, method, parameters, length):
    """transformers' rotary module of a config that asks for the method, after it has seen `length` positions."""
    config = type(loaded.model.config)(
        hidden_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=loaded.geometry.head_dim,
        max_position_embeddings=parameters.get("window", 64),
        rope_parameters={"rope_type": method, "rope_theta": 10_000.0}
        | {name: value for name, value in parameters.items() if name != "window"},
    )
    rotary = type(loaded.model.model.rotary_emb)(config)
    cos, sin = rotary(torch.zeros(1), torch.arange(length)[None])
    half = cos.shape[-1] // 2
    return rotary, cos[0, :, :half], sin[0, :, :half]


@pytest.mark.parametrize("length", [40, 64, 65, 200])
@pytest.mark.parametrize("method", PARAMETERS)
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_frequencies_are_those_of_transformers_own_module(tiny, family, method, length):
    loaded, (spec, parameters) = tiny(family, layers=1), PARAMETERS[method]
    rope = rope_of(loaded, spec, length)
    rotary, cos, sin = module_of_transformers(loaded, spec.method, parameters, length)
    assert torch.equal(rope.inv_freq, rotary.inv_freq)
    assert rope.attention_factor == pytest.approx(rotary.attention_scaling, abs=0)
    own = cos_sin(rope.inv_freq, torch.arange(length), rope.attention_factor)
    assert torch.equal(own[0], cos)
    assert torch.equal(own[1], sin)


def test_each_method_differs_from_the_native_one_where_it_should(tiny):
    loaded = tiny(layers=1)
    yarn = [rope_of(loaded, PARAMETERS[name][0], 200).inv_freq for name in ("yarn", "yarn, own betas")]
    assert not torch.equal(*yarn)
    native = rope_of(loaded, RopeSpec(), 200).inv_freq
    for method, (spec, _) in PARAMETERS.items():
        rope = rope_of(loaded, spec, 200)
        assert torch.equal(rope.inv_freq, native) == (method == "default"), method
        assert (rope.inv_freq <= native * (1 + 1e-6)).all(), method
        assert (rope.attention_factor > 1) == (spec.method in ("yarn", "longrope")), method
    assert torch.equal(rope_of(loaded, RopeSpec("dynamic", 4.0), 64).inv_freq, native)
    assert not torch.equal(
        rope_of(loaded, PARAMETERS["longrope"][0], 64).inv_freq, rope_of(loaded, PARAMETERS["longrope"][0], 65).inv_freq
    )


def test_a_checkpoints_own_method_is_its_default(tiny):
    block = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    loaded = tiny(layers=1, rope_parameters=block)
    own = loaded.model.model.rotary_emb
    rope = rope_of(loaded, RopeSpec(), 64)
    assert torch.equal(rope.inv_freq, own.inv_freq)
    assert rope.attention_factor == own.attention_scaling > 1
    assert loaded.geometry.original_context == 16
    torch.testing.assert_close(
        native_inv_freq(loaded), 10_000.0 ** -(torch.arange(0, 16, 2).double() / 16), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize(("theta", "head_dim"), [(10_000.0, 16), (500_000.0, 64)])
@pytest.mark.parametrize("factor", [1.0, 2.0, 7.5])
def test_static_ntk_by_hand(tiny, theta, head_dim, factor):
    loaded = tiny(layers=1, head_dim=head_dim, rope_parameters={"rope_type": "default", "rope_theta": theta})
    got = rope_of(loaded, RopeSpec("ntk", factor), 200)
    base = theta * factor ** (head_dim / (head_dim - 2))
    expected = [math.exp(-2 * i / head_dim * math.log(base)) for i in range(head_dim // 2)]
    torch.testing.assert_close(got.inv_freq.double(), torch.tensor(expected).double(), rtol=2e-6, atol=0)
    assert got.attention_factor == 1.0
    slowest = theta ** (-(head_dim - 2) / head_dim)
    assert float(got.inv_freq[-1]) == pytest.approx(slowest / factor, rel=1e-5)  # slowed by exactly the factor
    assert float(got.inv_freq[0]) == 1.0  # and the fastest not at all


def test_bad_longrope_lists_are_refused(tiny):
    loaded = tiny(layers=1)
    for spec, message in (
        (RopeSpec("longrope", 2.0), "ships none.*8 each"),
        (RopeSpec("longrope", 2.0, long_factor=(1.0,) * 7), "long_factor has 7 numbers, this model has 8"),
        (RopeSpec("longrope", 2.0, long_factor=(1.0,) * 8, short_factor=(2.0,)), "short_factor has 1"),
        (RopeSpec("longrope", 2.0, long_factor=(0.0,) * 8), "positive"),
    ):
        with pytest.raises(BadSpec, match=message):
            rope_of(loaded, spec, 100)


def test_the_config_is_never_touched(tiny):
    loaded = tiny(layers=1)
    before = loaded.model.config.to_dict()
    for spec, _ in PARAMETERS.values():
        rope_of(loaded, spec, 200)
    assert loaded.model.config.to_dict() == before


@pytest.mark.parametrize("fails", [False, True])
def test_rope_set_returns_the_very_same_buffer(tiny, fails):
    loaded = tiny(layers=1)
    rotary = loaded.model.model.rotary_emb
    before = rotary.inv_freq, rotary.inv_freq.clone(), rotary.attention_scaling, rotary.rope_type
    rope = rope_of(loaded, RopeSpec("yarn", 4.0), 200)
    try:
        with rope_set(loaded, {"": rope}):
            assert torch.equal(rotary.inv_freq, rope.inv_freq)
            cos, _ = rotary(torch.zeros(1), torch.arange(5)[None])
            assert float(cos[0, 0, 0]) == pytest.approx(rope.attention_factor)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert rotary.inv_freq is before[0]
    assert torch.equal(rotary.inv_freq, before[1])
    assert (rotary.attention_scaling, rotary.rope_type) == before[2:]


def partner(channel, rotary_dim, pairing):
    """(pair, is_second) of a channel, spelled as the definition."""
    if pairing == "half":
        return channel % (rotary_dim // 2), channel >= rotary_dim // 2
    return channel // 2, channel % 2 == 1


sizes = st.tuples(st.sampled_from([4, 6, 16]), st.sampled_from([0, 3, 4]))  # rotary_dim, channels past it


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(["half", "interleaved"]), st.floats(0.5, 2.0), st.integers(0, 2**31))
def test_rotation_is_complex_multiplication(size, pairing, attention, seed):
    (rotary_dim, rest), tokens = size, 5
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, tokens, rotary_dim + rest, generator=generator, dtype=torch.float64)
    inv_freq = torch.rand(rotary_dim // 2, generator=generator, dtype=torch.float64)
    positions = torch.randint(0, 100_000, (tokens,), generator=generator)
    cos, sin = cos_sin(inv_freq, positions, attention)
    got = rotate(x, cos, sin, pairing)
    index = pair_index(rotary_dim + rest, rotary_dim, pairing)
    for head in range(2):
        for t in range(tokens):
            for channel in range(rotary_dim + rest):
                if channel >= rotary_dim:
                    assert index[channel] == -1
                    assert got[head, t, channel] == x[head, t, channel]
                    continue
                pair, second = partner(channel, rotary_dim, pairing)
                assert index[channel] == pair
                a, b = (c for c in range(rotary_dim) if partner(c, rotary_dim, pairing)[0] == pair)
                z = complex(x[head, t, a], x[head, t, b])
                z *= attention * cmath.exp(1j * float(inv_freq[pair]) * int(positions[t]))
                assert float(got[head, t, channel]) == pytest.approx(z.imag if second else z.real, abs=1e-9)
    torch.testing.assert_close(unrotate(got, cos, sin, pairing), x, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["half", "interleaved"]), st.floats(0.5, 2.0), st.integers(0, 2**31))
def test_pair_norms_survive_rotation_and_bound_the_axes(pairing, attention, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 7, 16, generator=generator, dtype=torch.float64)
    cos, sin = cos_sin(torch.rand(8, generator=generator, dtype=torch.float64), torch.arange(7) * 1000, attention)
    turned = rotate(x, cos, sin, pairing)
    norm = pair_norm(turned, 16, pairing)
    torch.testing.assert_close(norm, attention * pair_norm(x, 16, pairing), rtol=1e-12, atol=0)
    a, b = (turned[..., :8], turned[..., 8:]) if pairing == "half" else (turned[..., ::2], turned[..., 1::2])
    largest = torch.maximum(a.abs(), b.abs())
    assert (largest <= norm * (1 + 1e-12)).all()
    assert (norm <= 2**0.5 * largest * (1 + 1e-12)).all()


def test_half_precision_is_unrotated_in_float32():
    cos, sin = cos_sin(torch.tensor([1.0, 0.1]), torch.arange(64), 1.2)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    back = unrotate(rotate(x, cos, sin, "half").bfloat16(), cos, sin, "half")
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, x, rtol=0.02, atol=0.02)


def test_a_config_is_enough_without_a_model():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from qroar_core.interpolations.frequencies import rope_for

    config = LlamaConfig(head_dim=16, hidden_size=48, num_attention_heads=4, max_position_embeddings=64)
    geometry = SimpleNamespace(theta=10_000.0, rotary_dim=16, n_pairs=8, original_context=64, interpolated_kind="")
    default = LlamaRotaryEmbedding.compute_default_rope_parameters
    rope = rope_for(config, geometry, RopeSpec("linear", 4.0), 100, default)
    assert torch.equal(rope.inv_freq, LlamaRotaryEmbedding(config).inv_freq / 4)
