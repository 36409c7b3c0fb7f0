"""No silent fallback: a random config of any family loads and takes scales exactly, or is refused in one line."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qroar_core.errors import QRoarError, UnsupportedModel
from qroar_core.models import patch
from qroar_core.models.score import logits_of
from qroar_core.models.stream import Condition, open_stream
from qroar_core.transforms.scales import Scales
from tests.models.families_table import CASES, DEFAULT, VOCAB, WIDE, config_of, loaded_of, model_of, plain_logits

LENGTH = 24
OUTCOMES: Counter[str] = Counter()
# families that turn a part of a head, drawn twice as often: the others refuse to
PARTIAL = sorted(name for name, case in CASES.items() if case.rotary_dim < case.head_dim and not case.latent)
LATENT = sorted(name for name, case in CASES.items() if case.latent)  # drawn by themselves, too: they are few
OPTIONS = {  # name: values, tried on every family whose config has it
    "attention_bias": [True, False],
    "use_bias": [True, False],
    "use_qkv_bias": [True, False],
    "bias": [True, False],
    "qk_layernorm": [True, False],
    "use_qk_norm": [True, False],
    "alibi": [True, False],
    "multi_query": [True, False],
    "new_decoder_architecture": [True, False],
    "parallel_attn": [True, False],
    "sliding_window": [None, 1, 7],
    "attn_logit_softcapping": [None, 2.0],
    "final_logit_softcapping": [None, 3.0],
    "use_bidirectional_attention": [None, True],
    "rope_interleave": [True, False],
    "tie_word_embeddings": [True, False],
}


@st.composite
def cases(draw, names, share=None):
    """(case, changes) of one of `names`: sizes, rotary fraction, RoPE type and options drawn anew."""
    base = CASES[draw(st.sampled_from(names))]
    kv = draw(st.sampled_from([1, 1, 2, 3]))
    heads = kv * draw(st.integers(1, 3))
    partial = base.rotary_dim < base.head_dim
    shares = [0.25, 0.75, 0.5, 0.4, 1.0] if partial else [None, None, None, 0.25, 0.5, 1.0]
    fraction = share or draw(st.sampled_from(shares))
    head_dim = draw(st.sampled_from([16, 24, 32] if fraction in (0.25, 0.75) else [4, 6, 8, 10, 16, 20]))
    parts = {}
    if base.latent:  # every head has keys of its own, unless a config is wrong
        kv = draw(st.sampled_from([heads, heads, heads, kv]))
        sizes = {
            "qk_nope_head_dim": [2, 4, 5],
            "qk_rope_head_dim": [4, 6],
            "v_head_dim": [3, 8],
            "kv_lora_rank": [6, 10],
            "q_lora_rank": [None, 7],
        }
        parts = {name: draw(st.sampled_from(values)) for name, values in sizes.items()}
        head_dim = parts["qk_nope_head_dim"] + parts["qk_rope_head_dim"]
    case = replace(base, heads=heads, kv_heads=kv, head_dim=head_dim)
    rope = dict(base.options.get("rope_parameters", DEFAULT))
    if "full_attention" in rope:
        blocks = [dict(block) for block in rope.values()]
    else:
        blocks = [rope]
    for block in blocks:
        block.pop("partial_rotary_factor", None)
        if fraction is not None:
            block["partial_rotary_factor"] = fraction
        if block.get("rope_type") == "longrope":
            pairs = int(head_dim * (fraction or 1.0)) // 2
            block |= {name: [1.0 + 0.2 * i for i in range(pairs)] for name in ("short_factor", "long_factor")}
    if len(blocks) == 1 and "factor" not in rope and draw(st.booleans()):
        rope |= draw(
            st.sampled_from(
                [
                    {"rope_type": "linear", "factor": 2.0},
                    {"rope_type": "proportional"},
                    {"rope_type": "dynamic", "factor": 2.0},
                ]
            )
        )
    changes = parts | {"rope_parameters": dict(zip(rope, blocks)) if len(blocks) > 1 else rope}
    if base.stem == "Falcon":
        changes["num_kv_heads"] = kv
    known = config_of(base).to_dict()
    for name, values in OPTIONS.items():
        if name in known and draw(st.integers(0, 2)) == 0:
            changes[name] = draw(st.sampled_from(values))
    return case, changes


def logits(loaded, tokens, scales=None):
    with open_stream(loaded, Condition(scales=scales), tokens.shape[1], chunk=13) as stream:
        return logits_of(loaded, torch.cat([piece.hidden for piece in stream.run(tokens)], 1))


def raised_in_transformers(error):
    """Whether the fault is not this file's own: the way to it leads through transformers or its config's checks."""
    files = [Path(at.filename).parts for at in traceback.extract_tb(error.__traceback__)]
    return any({"transformers", "huggingface_hub"} & {*parts} for parts in files)


def check(drawn, seed):
    case, changes = drawn
    tokens = torch.randint(0, VOCAB, (1, LENGTH), generator=torch.Generator().manual_seed(seed))
    try:
        model = model_of(case, seed, **changes)
        with WIDE():
            expected = plain_logits(model, tokens)
    except Exception as error:  # transformers itself cannot build or run such a model
        if not raised_in_transformers(error):
            raise
        OUTCOMES["impossible"] += 1
        assume(False)
    loaded = refusal = None
    try:
        loaded = loaded_of(case, None, None, model=model)
    except QRoarError as error:
        refusal = str(error)
    if loaded is None:
        assert "\n" not in refusal
        OUTCOMES["refused"] += 1
        return
    geo = loaded.geometry
    generator = torch.Generator().manual_seed(seed)
    g = torch.exp2(2 * torch.randn(geo.n_layers, geo.n_kv_heads, geo.n_pairs, generator=generator, dtype=torch.float64))
    if geo.finest != "kv_head":
        g = g[:, :1].expand_as(g).contiguous()
    scales = Scales("symmetric", geo.finest, tuple((i, i) for i in range(geo.n_pairs)), g)
    with WIDE():
        torch.testing.assert_close(logits(loaded, tokens), expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(logits(loaded, tokens, scales), expected, rtol=0, atol=1e-9)
        gains, alone = patch.channel_gains, pytest.MonkeyPatch()
        alone.setattr(patch, "channel_gains", lambda *a: (torch.ones_like(gains(*a)[0]), gains(*a)[1]))
        with alone.context():
            one_sided = logits(loaded, tokens, scales)
        alone.undo()
    window = changes.get("sliding_window", 0)
    if window != 1:  # a window of one key leaves nothing to weigh
        assert float((one_sided - expected).abs().max()) > 1e-6
    OUTCOMES["exact"] += 1
    OUTCOMES["exact, odd heads"] += geo.n_heads % 2
    OUTCOMES["exact, 1 KV head of several"] += geo.n_kv_heads == 1 < geo.n_heads
    OUTCOMES["exact, 1 KV head alone"] += geo.n_kv_heads == 1 == geo.n_heads
    OUTCOMES["exact, partial"] += geo.rotary_dim < geo.head_dim
    if not geo.latent_dim:
        OUTCOMES[f"exact, {geo.rotary_dim / geo.head_dim:g} turned"] += 1
    OUTCOMES["exact, latent"] += geo.latent_dim > 0
    OUTCOMES["exact, stateful"] += case.stateful


@pytest.mark.slow
def test_a_random_config_is_exact_or_refused():
    """And both happen. Draws that transformers cannot run at all are fewer than those that are exact."""
    OUTCOMES.clear()
    runs = [([*sorted(CASES), *PARTIAL], None, 130), (LATENT, None, 30)]
    runs += [(PARTIAL, share, 10) for share in (0.25, 0.5, 0.75)]
    for names, share, examples in runs:
        quiet = settings(
            max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
        )
        quiet(given(drawn=cases(names, share), seed=st.integers(0, 2**16))(check))()
    assert OUTCOMES["impossible"] < OUTCOMES["exact"]
    assert OUTCOMES["exact"] >= 40
    assert OUTCOMES["refused"] >= 5
    for kind in ("odd heads", "1 KV head of several", "partial", "stateful", "1 turned"):
        assert OUTCOMES[f"exact, {kind}"] >= 3, (kind, OUTCOMES)
    for kind in ("latent", "1 KV head alone", "0.25 turned", "0.5 turned", "0.75 turned"):
        assert OUTCOMES[f"exact, {kind}"] >= 1, (kind, OUTCOMES)


def fraction(share, **block):
    return {"rope_parameters": DEFAULT | {"partial_rotary_factor": share} | block}


REFUSED = {
    "deepseek_v3, grouped heads": ("deepseek_v3", {"num_key_value_heads": 1}, "1 KV heads: its latent gives every one"),
    "deepseek_v3, odd": ("deepseek_v3", {"qk_rope_head_dim": 2}, "rotary_dim 2 must be"),
    "cohere2, nothing slides": ("cohere2", {"layer_types": ["full_attention"] * 2}, "no layer carries RoPE"),
    "stablelm, qk_layernorm": ("stablelm", {"qk_layernorm": True}, "qk_layernorm is set"),
    "falcon, alibi": ("falcon", {"alibi": True}, r"no RoPE \(ALiBi\)"),
    "gemma3, softcap": ("gemma3", {"attn_logit_softcapping": 3.0}, "attn_logit_softcapping is set"),
    "gemma3, bidirectional": ("gemma3", {"use_bidirectional_attention": True}, "bidirectional"),
    "qwen3, partial": ("qwen3", fraction(0.5), "6 rotated channels, qwen3 turns 12"),
    "qwen3, partial and linear": ("qwen3", fraction(0.5, rope_type="linear", factor=2.0), "channels, qwen3 turns 12"),
    "glm4, odd": ("glm4", fraction(0.4), "rotary_dim 3 must be even"),
    "neox, two channels": ("gpt_neox", fraction(0.125), "rotary_dim 2 must be"),
    "smollm3, nothing turns": ("smollm3", {"no_rope_layers": [0, 0, 0, 0]}, "no layer"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_refused_with_its_reason(what):
    name, changes, reason = REFUSED[what]
    with pytest.raises(UnsupportedModel, match=reason) as error:
        loaded_of(CASES[name], None, None, **changes)
    assert "\n" not in str(error.value)


def test_a_layout_that_takes_no_scales_is_refused_with_its_reason():
    from qroar_core.models.families import BY_ARCHITECTURE, NO_ROPE, NOT_SUPPORTED, family_of

    assert not set(BY_ARCHITECTURE) & (set(NO_ROPE) | set(NOT_SUPPORTED))
    for name, reason in NOT_SUPPORTED.items():
        with pytest.raises(UnsupportedModel) as error:
            family_of([name], "here")
        assert str(error.value) == f"here: {name} is not supported: {reason}; choose a model of another family"
