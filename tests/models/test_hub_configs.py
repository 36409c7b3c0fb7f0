"""Folders whose config.json is what the hub has: each loads and gives transformers' own logits, bit by bit."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from qroar_core.errors import QRoarError
from qroar_core.models.load import read_config
from qroar_core.models.load import run as load_model
from qroar_core.models.sources import Source
from tests.models.hub_configs import HUB
from tests.models.hub_folders import IDS


@pytest.mark.parametrize("name", HUB)
def test_a_config_of_the_hub_loads_and_gives_the_logits_of_transformers(name, hub_folder):
    folder = hub_folder(HUB[name])
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = oracle(IDS, use_cache=False).logits
        got = loaded.model(IDS, use_cache=False).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert float(expected.std()) > 0.03
    noted = "its dual chunk attention, for texts past 253952 tokens, is not computed" if "1M" in name else ""
    assert loaded.note == noted


AT_ODDS = {  # what is said twice and differently, or not computed by transformers: was read without a word
    "rope_scaling.factor is 4.0, and no rope_type says how": ("SmolLM2", {"rope_scaling": {"factor": 4.0}}),
    "rope_scaling.short_factor is .*, and no rope_type": (
        "Phi3-4k",
        {"rope_scaling": {"rope_type": "default", "short_factor": [2.0] * 8}},
    ),
    "rope_theta is 100000, which a llama": ("SmolLM2", {"rope_parameters": {"rope_theta": 1e4}}),
    "rope_local_base_freq is 10000, which": (
        "Gemma3-v5",
        {
            "rope_local_base_freq": 10000,
            "rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": 1e6} for kind in ("full_attention", "sliding_attention")
            },
        },
    ),
    "rope_parameters and rope_scaling differ": (
        "SmolLM2",
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}},
    ),
    "rope_scaling has rope_type yarn and type linear": (
        "SmolLM2",
        {"rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": 2.0}},
    ),
    "rope_scaling.short_mscale is not known": (
        "Phi3-128k",
        {"rope_scaling": {**HUB["Phi3-128k"]["rope_scaling"], "short_mscale": 1.2, "long_mscale": 1.3}},
    ),
    "rope_scaling.factor is 100000.*, a number of at least 1": (
        "SmolLM2",
        {"rope_scaling": {"type": "linear", "factor": 10**400}},
    ),
    "hidden_size is 10000.*, a whole number": ("SmolLM2", {"hidden_size": 10**400}),
    "partial_rotary_factor is 0.25, which a gpt_neox": ("Pythia", {"rotary_pct": 0.5, "partial_rotary_factor": 0.25}),
    "rope_pct is 0.5, which a stablelm": ("StableLM-3b-4e1t", {"rope_pct": 0.5}),
    "experts_per_token is 4, which": ("gpt-oss", {"experts_per_token": 4}),
    "sliding_window_size is 512, which": ("Gemma2-it", {"sliding_window_size": 512}),
    "use_sliding_window is False, which": ("Mistral0.1", {"use_sliding_window": False}),
    "max_window_layers is 2, which": (
        "Qwen3-MoE",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    ),
    "layer_types is .*, which a llama": ("SmolLM2", {"layer_types": ["sliding_attention", "full_attention"] * 2}),
    "norm_topk_prob is True, which": ("DSV2-Lite", {"norm_topk_prob": True}),
    "topk_method is greedy, which": ("DSV3", {"topk_method": "greedy"}),
    "hidden_act is gelu, which": ("gpt-oss", {"hidden_act": "gelu"}),
    "norm_type is rms_norm, which": ("StarCoder2-3b", {"norm_type": "rms_norm"}),
    "mlp_type is gated, which": ("StarCoder2-3b", {"mlp_type": "gated"}),
    "use_qk_norm is False, which": ("Qwen3-Coder", {"use_qk_norm": False}),
    "rope_interleaved is False, which": ("CommandR", {"rope_interleaved": False}),
    "layer_switch is 2, which a cohere2": ("CommandR7B", {"layer_switch": 2}),
    "sliding_window_pattern is 2, which a cohere2": ("CommandA", {"sliding_window_pattern": 2}),
    "sliding_window_pattern is 5, which a gemma3": ("Gemma3-270m", {"sliding_window_pattern": 5}),
    "order_of_interleaved_layers is global_attn_first, which": (
        "CommandR7B",
        {"order_of_interleaved_layers": "global_attn_first"},
    ),
    "use_parallel_block is False, which": ("CommandR7B", {"use_parallel_block": False}),
    "use_gated_activation is False, which": ("CommandR7B", {"use_gated_activation": False}),
    "hidden_act is gelu, which a gemma2": ("Gemma2", {"hidden_act": "gelu"}),
    "hidden_activation is gelu, which a llama": ("SmolLM2", {"hidden_activation": "gelu"}),
}


@pytest.mark.parametrize("message", AT_ODDS)
def test_what_is_said_twice_and_differently_or_not_computed_is_refused(message, hub_folder):
    name, said = AT_ODDS[message]
    folder = hub_folder(HUB[name], **said)
    with pytest.raises(QRoarError, match=f"config.json: {message}") as error:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(error.value)


NOT_LLAMA = {  # keys of other architectures: what a Llama does not compute, and what it computes anyway
    "causal": (False, True),
    "is_causal": (False, True),
    "use_causal_mask": (False, True),
    "non_causal": (True, False),
    "bidirectional_attention": (True, False),
    "prefix_lm": (True, False),
    "attention_type": ("bidirectional", "causal"),
    "attn_type": ("linear", None),
    "use_rope": (False, True),
    "use_rotary": (False, True),
    "use_alibi": (True, False),
    "embed_scale": (8.0, 1.0),
    "embedding_scale": (3.0, 1),
    "emb_scale": (3.0, None),
    "input_scaling": (0.5, 1.0),
    "hidden_scale": (0.5, 1.0),
    "query_scale": (0.5, 1.0),
    "softmax_scale": (0.5, None),
    "output_scaling_factor": (2.0, 1.0),
    "scale_embeddings": (True, False),
    "normalize_embeddings": (True, False),
    "embedding_norm": (True, False),
    "local_attention": (128, None),
    "global_attn_every_n_layers": (3, None),
    "add_cross_attention": (True, False),
    "parallel_attn": (True, False),
    "layer_switch": (4, 1),
    "sliding_window_pattern": (6, None),
    "initializer_scale": (None, 0.02),
    "lora_scaling": (None, 2.0),
}


@pytest.mark.parametrize("key", NOT_LLAMA)
def test_a_key_of_another_architecture_is_refused_unless_it_changes_nothing(key, tmp_path):
    odd, same = NOT_LLAMA[key]
    raw = HUB["SmolLM2"] | {"model_type": "llama"}
    for value, refused in ((odd, odd is not None), (same, False)):
        said = raw | {key: value}
        (tmp_path / "config.json").write_text(json.dumps(said))
        try:
            read_config(Source("x", "x", tmp_path), said)
            line = ""
        except QRoarError as error:
            line = str(error)
        assert (f"{key} is {value}, which a llama model does not compute; check" in line) is refused, line
        assert bool(line) is refused


def test_yarn_on_a_model_whose_config_names_no_head_size(hub_folder):
    """transformers 5.23 itself multiplies null there, on Mixtral alone; the oracle is told the size."""
    block = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
    raw = HUB["Mixtral"] | {"rope_scaling": block}
    folder = hub_folder(raw | {"head_dim": 16}, head_dim=None)
    loaded = load_model(str(folder), device="cpu", dtype="float32")
    (folder / "config.json").write_text(json.dumps(raw | {"head_dim": 16}))
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        got, expected = loaded.model(IDS, use_cache=False).logits, oracle(IDS, use_cache=False).logits
    assert torch.equal(got, expected)


RECURRENT = ("Qwen3-Next", "Qwen3.5-text")  # their state carries float32's rounding on: 0.004 of a logit on some CPUs


@pytest.mark.parametrize("name", HUB)
def test_float64_is_the_same_model_in_finer_numbers(name, hub_folder):
    """Experts, too: torch's grouped product of them, which float32 takes, is the oracle and has no float64."""
    folder = hub_folder(HUB[name])
    coarse, fine = (load_model(str(folder), device="cpu", dtype=dtype).model for dtype in ("float32", "float64"))
    with torch.no_grad():
        expected, got = coarse(IDS, use_cache=False).logits, fine(IDS, use_cache=False).logits
    assert got.dtype == torch.float64
    assert not torch.equal(got, expected.double())
    atol = 3e-2 if name in RECURRENT else 1e-3  # logits of rms 1.2
    torch.testing.assert_close(got, expected.double(), rtol=0, atol=atol)
