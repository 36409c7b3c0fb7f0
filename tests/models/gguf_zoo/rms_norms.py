"""Kinds a step away from Llama: Granite, OLMo 2, GLM-4, SmolLM3 and LFM2."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.models.gguf_zoo.dense import llama_keys
from tests.models.gguf_zoo.kind import THETA, VOCAB, Kind, llama_rows


def granite_keys(config: Any) -> dict[str, Any]:
    return llama_keys(config) | {
        "attention.scale": float(config.attention_multiplier),
        "embedding_scale": float(config.embedding_multiplier),
        "residual_scale": float(config.residual_multiplier),
        "logit_scale": float(config.logits_scaling),
        "attention.key_length": None,
        "attention.value_length": None,
    }


def glm4_keys(config: Any) -> dict[str, Any]:
    return {"rope.dimension_count": int(config.head_dim * config.rope_parameters["partial_rotary_factor"])}


def lfm2_keys(config: Any) -> dict[str, Any]:
    width = int(2 * config.intermediate_size / 3) if config.block_auto_adjust_ff_dim else config.intermediate_size
    if config.block_auto_adjust_ff_dim:
        width = int(config.block_ffn_dim_multiplier * width)
        width = -(-width // config.block_multiple_of) * config.block_multiple_of
    attends = [config.num_key_value_heads if kind == "full_attention" else 0 for kind in config.layer_types]
    return {
        "attention.head_count_kv": attends,
        "feed_forward_length": width,
        "shortconv.l_cache": config.conv_L_cache,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "vocab_size": VOCAB,
    }


def lfm2_kernel(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """The kernel of a depthwise convolution loses its one channel."""
    return {"shortconv.conv.weight": tensor.squeeze(1)} if part == "conv.conv.weight" else None


LFM2 = {
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}
RMS_NORMS = {
    "granite": Kind(
        "granite",
        "Granite",
        {
            "attention_multiplier": 0.09,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.6,
            "logits_scaling": 0.7,
            "rms_norm_eps": 2e-5,
            "tie_word_embeddings": True,
            "attention_bias": True,
        },
        granite_keys,
        change=llama_rows,
    ),
    "olmo2": Kind(
        "olmo2",
        "Olmo2",
        {"rms_norm_eps": 2e-5},
        names={
            "post_attention_layernorm": "post_attention_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        },
    ),
    "glm4": Kind(
        "glm4",
        "Glm4",
        {
            "head_dim": 32,
            "attention_bias": True,
            "rms_norm_eps": 2e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 0.5},
        },
        glm4_keys,
        {
            "post_self_attn_layernorm": "post_attention_norm",
            "post_mlp_layernorm": "post_ffw_norm",
            "mlp.gate_up_proj": "ffn_up",
        },
    ),
    "smollm3": Kind(
        "smollm3",
        "SmolLM3",
        {"num_hidden_layers": 5, "rms_norm_eps": 2e-5, "tie_word_embeddings": True},
        llama_keys,
        change=llama_rows,
    ),
    "lfm2": Kind(
        "lfm2",
        "Lfm2",
        {
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            "block_multiple_of": 64,
            "norm_eps": 3e-5,
            "conv_L_cache": 4,
            "tie_word_embeddings": True,
        },
        lfm2_keys,
        LFM2,
        lfm2_kernel,
        {"model.embedding_norm": "token_embd_norm"},
    ),
}
