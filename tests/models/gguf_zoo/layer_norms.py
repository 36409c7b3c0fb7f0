"""Kinds whose norms subtract the mean: StarCoder2, StableLM, Falcon, GPT-NeoX, Command-R and Cohere 2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.models.gguf_zoo.kind import BASE_10000, TABLE, THETA, VOCAB, Kind

ERF = "transformers' gelu is exact, llama.cpp's is the tanh form from a float16 table"


def starcoder2_keys(config: Any) -> dict[str, Any]:
    return {"attention.layer_norm_epsilon": config.norm_epsilon}


def stablelm_keys(config: Any) -> dict[str, Any]:
    head_dim = config.hidden_size // config.num_attention_heads
    return {
        "rope.dimension_count": int(config.rope_parameters["partial_rotary_factor"] * head_dim),
        "use_parallel_residual": config.use_parallel_residual,
        "rope.freq_base": None,
    }


def stablelm_norms(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """The norm of each head becomes one row."""
    for letter in "qk":
        if part.startswith(f"self_attn.{letter}_layernorm.norms."):
            return {f"attn_{letter}_norm.weight": tensor[None]}
    return None


def falcon_keys(config: Any) -> dict[str, Any]:
    return {
        "context_length": 2048,  # whatever the config says
        "tensor_data_layout": "jploski",
        "feed_forward_length": 4 * config.hidden_size,
        "attention.head_count_kv": _falcon_kv_heads(config),
        "attention.layer_norm_epsilon": config.layer_norm_epsilon,
        "attention.key_length": None,
        "attention.value_length": None,
        "rope.freq_base": None,
    }


def _falcon_kv_heads(config: Any) -> int:
    return config.num_kv_heads if config.new_decoder_architecture or not config.multi_query else 1


def falcon_rows(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """Groups of queries, key and value become all queries, all keys, all values."""
    if part != "self_attention.query_key_value.weight":
        return None
    kv, heads = _falcon_kv_heads(config), config.num_attention_heads
    groups = tensor.reshape(kv, heads // kv + 2, -1, tensor.shape[-1])
    parts = (groups[:, :-2], groups[:, -2:-1], groups[:, -1:])
    return {"attn_qkv.weight": torch.cat([rows.reshape(-1, tensor.shape[-1]) for rows in parts])}


def gpt_neox_keys(config: Any) -> dict[str, Any]:
    head_dim = config.hidden_size // config.num_attention_heads
    return {
        "rope.dimension_count": int(config.rope_parameters["partial_rotary_factor"] * head_dim),
        "use_parallel_residual": config.use_parallel_residual,
        "attention.head_count_kv": None,
        "rope.freq_base": None,
    }


def gpt_neox_rows(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """Query, key and value of each head become all queries, all keys, all values."""
    module, _, suffix = part.rpartition(".")
    if module != "attention.query_key_value":
        return None
    heads = tensor.reshape(config.num_attention_heads, 3, -1, *tensor.shape[1:])
    return {f"attn_qkv.{suffix}": heads.transpose(0, 1).reshape(tensor.shape)}


def cohere_keys(config: Any) -> dict[str, Any]:
    return {
        "logit_scale": config.logit_scale,
        "rope.scaling.type": "none",
        "attention.key_length": None,
        "attention.value_length": None,
    }


def cohere2_keys(config: Any) -> dict[str, Any]:
    return {
        "logit_scale": config.logit_scale,
        "rope.scaling.type": "none",
        "vocab_size": VOCAB,
        "attention.sliding_window": config.sliding_window,
        "rope.dimension_count": config.head_dim,
    }


FALCON = {
    "input_layernorm": "attn_norm",
    "ln_mlp": "attn_norm",
    "ln_attn": "attn_norm_2",
    "self_attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}
FALCON_ROOT = {"transformer.word_embeddings": "token_embd", "transformer.ln_f": "output_norm"}
NEOX = {"attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down"}
NEOX_ROOT = {"gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm"}
QUARTER = BASE_10000 | {"partial_rotary_factor": 0.25}


def falcon(options: dict) -> Kind:
    return Kind(
        "falcon",
        "Falcon",
        {"layer_norm_epsilon": 3e-5, "rope_parameters": BASE_10000} | options,
        falcon_keys,
        FALCON,
        falcon_rows,
        FALCON_ROOT,
        layers="transformer.h",
        apart=1e-2,
        why_apart=ERF,
    )


def gpt_neox(options: dict) -> Kind:
    return Kind(
        "gptneox",
        "GPTNeoX",
        {"layer_norm_eps": 3e-5, "rope_parameters": QUARTER} | options,
        gpt_neox_keys,
        NEOX,
        gpt_neox_rows,
        NEOX_ROOT,
        layers="gpt_neox.layers",
        apart=1e-2,
        why_apart=ERF,
    )


LAYER_NORMS = {
    "starcoder2": Kind(
        "starcoder2",
        "Starcoder2",
        {"norm_epsilon": 4e-5, "tie_word_embeddings": True},
        starcoder2_keys,
        {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
        apart=1e-2,
        why_apart=TABLE,
    ),
    "stablelm": Kind(
        "stablelm",
        "StableLm",
        {"layer_norm_eps": 2e-5, "use_qkv_bias": True, "rope_parameters": QUARTER},
        stablelm_keys,
    ),
    "stablelm, parallel, norms of heads": Kind(
        "stablelm",
        "StableLm",
        {"use_parallel_residual": True, "qk_layernorm": True, "rope_parameters": QUARTER},
        stablelm_keys,
        change=stablelm_norms,
    ),
    "falcon": falcon(
        {
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 2,
            "tie_word_embeddings": False,
        }
    ),
    "falcon, one norm": falcon(
        {
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "tie_word_embeddings": False,
        }
    ),
    "falcon, multi-query": falcon({"multi_query": True, "num_kv_heads": None, "tie_word_embeddings": True}),
    "gptneox": gpt_neox({}),
    "gptneox, serial": gpt_neox({"use_parallel_residual": False}),
    "command-r": Kind(
        "command-r", "Cohere", {"layer_norm_eps": 2e-5, "logit_scale": 0.5, "tie_word_embeddings": True}, cohere_keys
    ),
    "command-r, norms of heads": Kind(
        "command-r",
        "Cohere",
        {
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 64,
            "use_qk_norm": True,
            "logit_scale": 0.5,
            "tie_word_embeddings": True,
        },
        cohere_keys,
    ),
    "cohere2": Kind(
        "cohere2",
        "Cohere2",
        {
            "num_hidden_layers": 5,
            "sliding_window": 9,
            "layer_norm_eps": 2e-5,
            "logit_scale": 0.5,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
        },
        cohere2_keys,
    ),
}
