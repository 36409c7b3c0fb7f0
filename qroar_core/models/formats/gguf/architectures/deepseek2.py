"""DeepSeek-V2 and V3: latent attention; kv_b whole (older files) or split into keys, turned, and values.

Scores by softmax mean V2, by sigmoid V3. A file without groups of experts is computed without them, as in llama.cpp.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.errors import UnsupportedModel
from qroar_core.models.formats.gguf.architecture import MLP, Architecture, Built, Config, has, share, sizes, take
from qroar_core.models.formats.gguf.experts import expert_layers
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import rope_parameters
from qroar_core.models.formats.gguf.reading import Place, TensorPart, assembled
from qroar_core.models.formats.stored import StoredTensor

SOFTMAX, SIGMOID = 1, 2
CORRECTION = "exp_probs_b.bias"  # of the scores, when experts are chosen
LAYER = (
    MLP
    | {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_q_a": "self_attn.q_a_proj",
        "attn_q_a_norm": "self_attn.q_a_layernorm",
        "attn_q_b": "self_attn.q_b_proj",
        "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
        "attn_kv_a_norm": "self_attn.kv_a_layernorm",
        "attn_kv_b": "self_attn.kv_b_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate_inp": "mlp.gate",
    }
    | {f"ffn_{x}_shexp": f"mlp.shared_experts.{x}_proj" for x in ("gate", "up", "down")}
)


def config(meta: Metadata, files: GgufFiles) -> Config:
    """The config of V2 or V3."""
    found = sizes(meta, files)
    heads = found["num_attention_heads"]
    split = meta.has("attention.key_length_mla")
    key, value = (
        ("attention.key_length_mla", "attention.value_length_mla")
        if split
        else ("attention.key_length", "attention.value_length")
    )
    width, rank, turned = meta.size(key), meta.size("attention.kv_lora_rank"), meta.size("rope.dimension_count")
    if split:
        meta.only("attention.key_length", rank + turned)
        meta.only("attention.value_length", rank)
    meta.only("attention.head_count_kv", 1 if split else heads)
    meta.only("attention.causal", True)
    if turned >= width:
        raise meta.wrong("rope.dimension_count", turned)
    count = meta.size("expert_count")
    gate = meta.size("expert_gating_func", SOFTMAX, least=0) or SOFTMAX
    if gate not in (SOFTMAX, SIGMOID):
        raise meta.wrong("expert_gating_func", gate)
    groups = meta.size("expert_group_count", 1, least=0) or 1
    norm = meta.flag("expert_weights_norm", False)
    found |= {
        "architectures": ["DeepseekV3ForCausalLM" if gate == SIGMOID else "DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v3" if gate == SIGMOID else "deepseek_v2",
        "hidden_act": "silu",
        "rms_norm_eps": meta.real("attention.layer_norm_rms_epsilon"),
        "num_key_value_heads": heads,
        "q_lora_rank": meta.size("attention.q_lora_rank", 0, least=0) or None,
        "kv_lora_rank": rank,
        "qk_rope_head_dim": turned,
        "qk_nope_head_dim": width - turned,
        "v_head_dim": meta.size(value),
        "head_dim": turned,
        "rope_parameters": rope_parameters(meta, files, turned, mla=True),
        "attention_bias": False,
        "first_k_dense_replace": meta.size("leading_dense_block_count", least=0),
        "n_routed_experts": count,
        "num_experts_per_tok": share(meta, "expert_used_count", count),
        "moe_intermediate_size": meta.size("expert_feed_forward_length"),
        "n_shared_experts": meta.size("expert_shared_count"),
        "routed_scaling_factor": meta.real("expert_weights_scale"),
        "norm_topk_prob": norm,
        "n_group": groups,
        "topk_group": share(meta, "expert_group_used_count", groups, groups) if groups > 1 else groups,
    }
    meta.size("expert_group_used_count", 1, least=0)
    if gate == SIGMOID:
        return found | {"rope_interleave": True}
    if norm:
        raise UnsupportedModel(
            f"{meta.full('expert_weights_norm')} is true with scores by softmax, which transformers does not compute",
            where=meta.where,
            do="give the Hugging Face checkpoint of this model",
        )
    return found | {"topk_method": "greedy" if groups == 1 else "group_limited_greedy", "mlp_bias": False}


def merged(found: Config, files: GgufFiles) -> Built:
    """Experts, the router's correction, and kv_b where it is split."""
    built: Built = {}
    count, layers = found["n_routed_experts"], found["num_hidden_layers"]
    sparse = range(found["first_k_dense_replace"], layers)
    built |= expert_layers(found, files, sparse, count, found["moe_intermediate_size"])
    corrected = has(files, CORRECTION)
    for i in sparse if found["model_type"] == "deepseek_v3" else ():
        name, target = f"blk.{i}.{CORRECTION}", f"model.layers.{i}.mlp.gate.e_score_correction_bias"
        if corrected:
            built[target] = assembled((count,), [TensorPart(take(files, name, (count,)))]), (name,)
        else:  # optional in llama.cpp
            built[target] = StoredTensor((count,), lambda: torch.zeros(count)), ()
    for i in range(layers):
        if f"blk.{i}.attn_k_b.weight" in files.tensors:
            built |= _kv_b(found, files, i)
    return built


def _kv_b(found: Config, files: GgufFiles, i: int) -> Built:
    heads, rank = found["num_attention_heads"], found["kv_lora_rank"]
    plain, values = found["qk_nope_head_dim"], found["v_head_dim"]
    names = f"blk.{i}.attn_k_b.weight", f"blk.{i}.attn_v_b.weight"
    pieces = [
        TensorPart(take(files, names[0], (heads, rank, plain)), _keys(heads, rank, plain)),
        TensorPart(take(files, names[1], (heads, values, rank)), _values(heads, plain, values)),
    ]
    stored = assembled((heads * (plain + values), rank), pieces)
    return {f"model.layers.{i}.self_attn.kv_b_proj.weight": (stored, names)}


def _keys(heads: int, rank: int, plain: int) -> Place:
    def place(whole: Tensor, numbers: Tensor, rows: Tensor) -> None:  # row (head, latent channel), columns its keys
        whole.view(heads, -1, rank)[numbers // rank, :plain, numbers % rank] = rows

    return place


def _values(heads: int, plain: int, count: int) -> Place:
    def place(whole: Tensor, numbers: Tensor, rows: Tensor) -> None:  # row (head, value channel)
        whole.view(heads, -1, whole.shape[-1])[numbers // count, plain + numbers % count] = rows

    return place


DEEPSEEK2 = Architecture(
    "deepseek2", config, layer=LAYER, merged=merged, head="always", no_scales="q and k come out of a latent"
)
