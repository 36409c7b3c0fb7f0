"""Kinds with experts: Mixtral, Qwen2-MoE, Qwen3-MoE, gpt-oss and DeepSeek with its latent attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.models.gguf_zoo.dense import llama_keys
from tests.models.gguf_zoo.kind import THETA, VOCAB, Kind, llama_rows


def stacked(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """Gate and up of every expert, which transformers keeps in one tensor, are two in a file."""
    if part == "mlp.experts.gate_up_proj":
        gate, up = tensor.chunk(2, 1)
        return {"ffn_gate_exps.weight": gate, "ffn_up_exps.weight": up}
    return {"ffn_down_exps.weight": tensor} if part == "mlp.experts.down_proj" else None


def mixtral(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    return stacked(part, tensor, config) or llama_rows(part, tensor, config)


def mixtral_apart(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """Each expert a tensor of its own, as files of early 2024 have them."""
    found = mixtral(part, tensor, config)
    if found is None or "experts" not in part:
        return found
    one = {name.replace("_exps", ".{}"): values for name, values in found.items()}
    return {name.format(i): expert for name, values in one.items() for i, expert in enumerate(values)}


def qwen2_moe_keys(config: Any) -> dict[str, Any]:
    return {
        "expert_feed_forward_length": config.moe_intermediate_size,
        "expert_shared_feed_forward_length": config.shared_expert_intermediate_size,
    }


def qwen3_moe_keys(config: Any) -> dict[str, Any]:
    return {"expert_feed_forward_length": config.moe_intermediate_size}


def gpt_oss_keys(config: Any) -> dict[str, Any]:
    return {
        "expert_feed_forward_length": config.intermediate_size,
        "attention.sliding_window": config.sliding_window,
    }


def gpt_oss(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """Experts multiply from the right in transformers, and gate and up take turns."""
    if part == "self_attn.sinks":
        return {"attn_sinks.weight": tensor}
    if not part.startswith("mlp.experts."):
        return None
    suffix = "bias" if part.endswith("_bias") else "weight"
    rows = tensor if suffix == "bias" else tensor.transpose(1, 2)
    if "down_proj" in part:
        return {f"ffn_down_exps.{suffix}": rows}
    return {f"ffn_gate_exps.{suffix}": rows[:, ::2], f"ffn_up_exps.{suffix}": rows[:, 1::2]}


def deepseek_keys(config: Any) -> dict[str, Any]:
    """Latent attention seen as one KV head: the latent and the rotated part."""
    rope = config.rope_parameters
    found = {
        "vocab_size": VOCAB,
        "leading_dense_block_count": config.first_k_dense_replace,
        "attention.q_lora_rank": config.q_lora_rank,
        "attention.kv_lora_rank": config.kv_lora_rank,
        "attention.head_count_kv": 1,
        "attention.key_length": config.kv_lora_rank + config.qk_rope_head_dim,
        "attention.value_length": config.kv_lora_rank,
        "attention.key_length_mla": config.qk_nope_head_dim + config.qk_rope_head_dim,
        "attention.value_length_mla": config.v_head_dim,
        "rope.dimension_count": config.qk_rope_head_dim,
        "expert_count": config.n_routed_experts,
        "expert_shared_count": config.n_shared_experts,
        "expert_feed_forward_length": config.moe_intermediate_size,
        "expert_weights_scale": config.routed_scaling_factor,
        "expert_group_count": config.n_group,
        "expert_group_used_count": config.topk_group,
        "expert_gating_func": 2 if "V3" in type(config).__name__ else 1,  # sigmoid, softmax
    }
    if config.norm_topk_prob:
        found["expert_weights_norm"] = True
    if "mscale_all_dim" in rope:
        found["rope.scaling.yarn_log_multiplier"] = 0.1 * rope["mscale_all_dim"]
    return found


def deepseek_old_keys(config: Any) -> dict[str, Any]:
    """Files before the split of kv_b: every head has keys and values of its own."""
    return deepseek_keys(config) | {
        "attention.head_count_kv": config.num_attention_heads,
        "attention.key_length": config.qk_nope_head_dim + config.qk_rope_head_dim,
        "attention.value_length": config.v_head_dim,
        "attention.key_length_mla": None,
        "attention.value_length_mla": None,
    }


def deepseek_old(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    if part == "mlp.gate.e_score_correction_bias":
        return {"exp_probs_b.bias": tensor}
    return stacked(part, tensor, config)


def deepseek(part: str, tensor: Tensor, config: Any) -> dict[str, Tensor] | None:
    """kv_b is split, and its keys are turned so that queries can be brought into the latent."""
    if part != "self_attn.kv_b_proj.weight":
        return deepseek_old(part, tensor, config)
    heads = tensor.reshape(config.num_attention_heads, -1, tensor.shape[-1])
    keys, values = heads[:, : config.qk_nope_head_dim], heads[:, config.qk_nope_head_dim :]
    return {"attn_k_b.weight": keys.transpose(1, 2), "attn_v_b.weight": values}


MOE = {"mlp.gate": "ffn_gate_inp"}
QWEN2_MOE = MOE | {f"mlp.shared_expert.{x}_proj": f"ffn_{x}_shexp" for x in ("gate", "up", "down")}
QWEN2_MOE["mlp.shared_expert_gate"] = "ffn_gate_inp_shexp"
DEEPSEEK = MOE | {f"mlp.shared_experts.{x}_proj": f"ffn_{x}_shexp" for x in ("gate", "up", "down")}
DEEPSEEK |= {
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
}
MIXTRAL = {"num_local_experts": 4, "num_experts_per_tok": 2, "rms_norm_eps": 2e-5, "head_dim": 32}
QWEN = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "rms_norm_eps": 2e-5}
YARN = {
    "rope_type": "yarn",
    "rope_theta": THETA,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 32,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "rms_norm_eps": 1e-6,
}
V2 = LATENT | {
    "q_lora_rank": 64,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.5,
    "rope_parameters": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
}
LITE = V2 | {"q_lora_rank": None, "num_hidden_layers": 27, "hidden_size": 64, "intermediate_size": 96}
V3 = LATENT | {
    "q_lora_rank": 64,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 1,
    "routed_scaling_factor": 2.5,
    "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
}
GPT_OSS = {
    "num_hidden_layers": 4,
    "head_dim": 32,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 9,
    "rms_norm_eps": 2e-5,
}
RIGHT = {"experts.gate_up_proj": 1, "experts.down_proj": 1}
EXPERTS = {
    "mixtral": Kind("llama", "Mixtral", MIXTRAL, llama_keys, MOE, mixtral),
    "mixtral, separate experts": Kind(
        "llama",
        "Mixtral",
        MIXTRAL,
        llama_keys,
        MOE,
        mixtral_apart,
        without="llama.cpp has left off reading separate experts",
    ),
    "qwen2moe": Kind(
        "qwen2moe", "Qwen2Moe", QWEN | {"shared_expert_intermediate_size": 160}, qwen2_moe_keys, QWEN2_MOE, stacked
    ),
    "qwen3moe": Kind(
        "qwen3moe", "Qwen3Moe", QWEN | {"head_dim": 64, "norm_topk_prob": True}, qwen3_moe_keys, MOE, stacked
    ),
    "gpt-oss": Kind(
        "gpt-oss",
        "GptOss",
        GPT_OSS | {"rope_parameters": YARN | {"truncate": False}},
        gpt_oss_keys,
        {"mlp.router": "ffn_gate_inp", "post_attention_layernorm": "post_attention_norm"},
        gpt_oss,
        rounded_along=RIGHT,
        without="llama.cpp rounds the bounds of YaRN's ramp to whole pairs, gpt-oss does not, and no key says which",
    ),
    "gpt-oss, whole bounds": Kind(
        "gpt-oss",
        "GptOss",
        GPT_OSS | {"rope_parameters": YARN | {"truncate": True}},
        gpt_oss_keys,
        {"mlp.router": "ffn_gate_inp", "post_attention_layernorm": "post_attention_norm"},
        gpt_oss,
        rounded_along=RIGHT,
    ),
    "deepseek2": Kind(
        "deepseek2", "DeepseekV2", V2, deepseek_keys, DEEPSEEK, deepseek, unblocked=("kv_b_proj.weight",)
    ),
    "deepseek2, one kv_b": Kind("deepseek2", "DeepseekV2", V2, deepseek_old_keys, DEEPSEEK, deepseek_old),
    "deepseek2, lite": Kind(
        "deepseek2", "DeepseekV2", LITE, deepseek_keys, DEEPSEEK, deepseek, unblocked=("kv_b_proj.weight",)
    ),
    "deepseek2, lite, one kv_b": Kind("deepseek2", "DeepseekV2", LITE, deepseek_old_keys, DEEPSEEK, deepseek_old),
    "deepseek2, V3": Kind(
        "deepseek2", "DeepseekV3", V3, deepseek_keys, DEEPSEEK, deepseek, unblocked=("kv_b_proj.weight",)
    ),
}
