"""Kinds without experts whose layers are close to Llama's."""

from __future__ import annotations

import math
from typing import Any

from tests.models.gguf_zoo.kind import BASE_10000, CONTEXT, TABLE, THETA, VOCAB, Kind, llama_rows


def llama_keys(config: Any) -> dict[str, Any]:
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {"vocab_size": VOCAB, "rope.dimension_count": head_dim}


def old_llama_keys(config: Any) -> dict[str, Any]:
    """Files of 2023: no size of a head, no base where it is 10,000."""
    return {
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": None,
        "attention.key_length": None,
        "attention.value_length": None,
    }


def gemma2_keys(config: Any) -> dict[str, Any]:
    """The base is left out, as the converter leaves it out: llama.cpp takes 10,000."""
    return {
        "attn_logit_softcapping": config.attn_logit_softcapping,
        "final_logit_softcapping": config.final_logit_softcapping,
        "attention.sliding_window": config.sliding_window,
        "rope.freq_base": None,
    }


def gemma3_keys(config: Any) -> dict[str, Any]:
    return {
        "attention.sliding_window": config.sliding_window,
        "final_logit_softcapping": config.final_logit_softcapping,
    }


def old_gemma3_keys(config: Any) -> dict[str, Any]:
    """Files of 2025: the base of sliding layers goes without saying."""
    return gemma3_keys(config) | {"rope.freq_base_swa": None}


GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
DEEP = f"{TABLE}, and its error grows with the layers"
GEMMA_SIZES = {"tie_word_embeddings": True, "head_dim": 64, "rms_norm_eps": 3e-5}
BIG = {  # the sizes of 27B scale by hidden_size / n_heads, which llama.cpp knows by the number of layers alone
    "tie_word_embeddings": True,
    "head_dim": 32,
    "hidden_size": 64,
    "intermediate_size": 64,
    "query_pre_attn_scalar": 16,
}
GEMMA3_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    "full_attention": {"rope_type": "default", "rope_theta": 90_000.0},
}


def phi3_keys(config: Any) -> dict[str, Any]:
    parameters = config.rope_parameters
    rotated = int(parameters["partial_rotary_factor"] * config.hidden_size) // config.num_attention_heads
    scaled = parameters["rope_type"] == "longrope"
    original = parameters["original_max_position_embeddings"] if scaled else config.original_max_position_embeddings
    found = {
        "rope.dimension_count": rotated,
        "rope.scaling.original_context_length": original,
        "attention.sliding_window": config.sliding_window or 0,
    }
    if scaled:
        stretch = config.max_position_embeddings / original
        found["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(stretch) / math.log(original))
    return found


PHI3 = {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
PHI3_SIZES = {
    "rms_norm_eps": 4e-5,
    "original_max_position_embeddings": CONTEXT,
    "sliding_window": None,
}
PARTIAL = {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 0.75}

DENSE = {
    "llama": Kind("llama", "Llama", {"rms_norm_eps": 2e-5}, llama_keys, change=llama_rows),
    "llama, every head its own": Kind(
        "llama", "Llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}, llama_keys, change=llama_rows
    ),
    "llama, biases": Kind(
        "llama",
        "Llama",
        {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1},
        llama_keys,
        change=llama_rows,
    ),
    "llama, old keys": Kind("llama", "Llama", {"rope_parameters": BASE_10000}, old_llama_keys, change=llama_rows),
    "mistral": Kind(
        "llama",
        "Mistral",
        {"head_dim": 48, "sliding_window": None, "rms_norm_eps": 2e-5},
        llama_keys,
        change=llama_rows,
    ),
    "qwen2": Kind("qwen2", "Qwen2", {"rms_norm_eps": 5e-5}),
    "qwen2, tied": Kind("qwen2", "Qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "qwen3": Kind("qwen3", "Qwen3", {"head_dim": 64, "rms_norm_eps": 2e-5}),
    "gemma2": Kind(
        "gemma2",
        "Gemma2",
        GEMMA_SIZES
        | {
            "num_hidden_layers": 4,
            "query_pre_attn_scalar": 64,
            "sliding_window": 9,
            "attn_logit_softcapping": 6.0,
            "final_logit_softcapping": 5.0,
            "rope_parameters": BASE_10000,
        },
        gemma2_keys,
        GEMMA,
        centred=True,
        apart=1e-2,
        why_apart=TABLE,
    ),
    "gemma2, 27B": Kind(
        "gemma2",
        "Gemma2",
        BIG | {"num_hidden_layers": 46, "sliding_window": 9, "rope_parameters": BASE_10000},
        gemma2_keys,
        GEMMA,
        centred=True,
        apart=8e-2,
        why_apart=DEEP,
    ),
    "gemma3": Kind(
        "gemma3",
        "Gemma3",
        GEMMA_SIZES
        | {
            "num_hidden_layers": 7,
            "query_pre_attn_scalar": 64,
            "sliding_window": 9,
            "rope_parameters": GEMMA3_ROPE,
        },
        gemma3_keys,
        GEMMA,
        centred=True,
        config="Gemma3TextConfig",
        apart=1e-2,
        why_apart=TABLE,
    ),
    "gemma3, old keys": Kind(
        "gemma3",
        "Gemma3",
        GEMMA_SIZES
        | {
            "num_hidden_layers": 7,
            "query_pre_attn_scalar": 64,
            "sliding_window": 9,
            "final_logit_softcapping": 6.0,
            "rope_parameters": GEMMA3_ROPE | {"sliding_attention": BASE_10000},
        },
        old_gemma3_keys,
        GEMMA,
        centred=True,
        config="Gemma3TextConfig",
        apart=1e-2,
        why_apart=TABLE,
    ),
    "gemma3, 27B": Kind(
        "gemma3",
        "Gemma3",
        BIG | {"num_hidden_layers": 62, "sliding_window": 9, "rope_parameters": GEMMA3_ROPE},
        gemma3_keys,
        GEMMA,
        centred=True,
        config="Gemma3TextConfig",
        apart=8e-2,
        why_apart=DEEP,
    ),
    "phi3": Kind("phi3", "Phi3", PHI3_SIZES, phi3_keys, PHI3),
    "phi3, partial": Kind(
        "phi3",
        "Phi3",
        PHI3_SIZES | {"tie_word_embeddings": True, "rope_parameters": PARTIAL, "original_max_position_embeddings": 32},
        phi3_keys,
        PHI3,
    ),
}
