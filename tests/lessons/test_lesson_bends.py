"""Lesson 3 and the frequencies of 4 against transformers' own rotary module of a real LlamaConfig."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from qroar_core.errors import BadSpec, UnsupportedModel
from qroar_core.interpolations.rope_without_model import plain_rope
from qroar_core.lessons.heads import HEADS, STRETCHING, Head, interpolated, longrope_example
from qroar_core.lessons.interpolations import bends
from qroar_core.specs import RopeSpec


def transformers_module(head, method, factor):
    """Frequencies and factor after transformers' module has read s L0 positions; static NTK by a larger base."""
    theta = head.theta * factor ** (head.head_dim / (head.head_dim - 2)) if method == "ntk" else head.theta
    block = {"rope_type": "default" if method == "ntk" else method, "rope_theta": theta}
    if method != "ntk":
        block["factor"] = factor
    if method in ("yarn", "llama3", "longrope"):
        block["original_max_position_embeddings"] = head.original_context
    if method == "llama3":
        block |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if method == "longrope":
        pairs = head.head_dim // 2
        block |= {
            "short_factor": [1.0] * pairs,
            "long_factor": [1 + (factor - 1) * i / (pairs - 1) for i in range(pairs)],
        }
    config = LlamaConfig(
        hidden_size=head.head_dim,
        num_attention_heads=1,
        head_dim=head.head_dim,
        max_position_embeddings=head.original_context,
        rope_parameters=block,
    )
    rotary = LlamaRotaryEmbedding(config)
    rotary(torch.zeros(1), torch.arange(int(factor * head.original_context))[None])
    return rotary.inv_freq, rotary.attention_scaling


@pytest.mark.parametrize("head", HEADS, ids=lambda h: h.name)
@pytest.mark.parametrize("method", STRETCHING)
def test_frequencies_are_those_of_transformers_module(head, method):
    for factor in (1.0, 1.5, 4.0):
        if factor * head.original_context > 20_000:
            continue  # the module would walk every position
        expected, attention = transformers_module(head, method, factor)
        rope = interpolated(head, method, factor)
        torch.testing.assert_close(rope.inv_freq, expected, rtol=1e-6, atol=0)
        assert rope.attention_factor == pytest.approx(attention, rel=1e-12)


def test_the_lesson_hands_on_what_the_initialisers_say():
    shown = bends(HEADS[0], 4.0)
    assert [b.method for b in shown.methods] == list(STRETCHING)
    assert shown.length == 16384
    native = [10_000.0 ** (-i / 64) for i in range(64)]
    assert shown.native == pytest.approx(native, rel=1e-13)
    assert shown.wavelength == pytest.approx([2 * math.pi / w for w in native], rel=1e-13)
    for bend in shown.methods:
        expected, attention = transformers_module(HEADS[0], bend.method, 4.0)
        assert bend.inv_freq == pytest.approx(expected.tolist(), rel=1e-6)
        assert bend.compression == pytest.approx([w / n for w, n in zip(expected.tolist(), native)], rel=1e-6)
        assert bend.attention_factor == pytest.approx(attention, rel=1e-12)
    factors = {b.method: b.attention_factor for b in shown.methods}
    assert factors["yarn"] == pytest.approx(0.1 * math.log(4) + 1)
    assert factors["longrope"] == pytest.approx(math.sqrt(1 + math.log(4) / math.log(4096)))


def test_the_longrope_example_rises_evenly_from_1_to_the_factor():
    assert longrope_example(5, 3.0) == (1.0, 1.5, 2.0, 2.5, 3.0)


def test_a_head_that_cannot_be_is_refused():
    with pytest.raises(UnsupportedModel, match="rotary_dim 5"):
        plain_rope(1e4, 5, 64, RopeSpec("linear", 2.0), 128)
    with pytest.raises(BadSpec, match="3 numbers, this model has 4 pairs"):
        plain_rope(1e4, 8, 64, RopeSpec("longrope", 2.0, long_factor=(1.0, 1.0, 1.0)), 128)


def test_no_interpolation_is_the_plain_formula():
    rope = plain_rope(1e4, 16, 64, RopeSpec(), 64)
    assert rope.inv_freq.tolist() == pytest.approx([1e4 ** (-i / 8) for i in range(8)], rel=1e-6)
    assert rope.attention_factor == 1.0


def test_heads_are_told_by_name_and_size():
    assert len({h.name for h in HEADS}) == len(HEADS)
    assert all(isinstance(h, Head) and h.n_pairs == h.head_dim // 2 for h in HEADS)
