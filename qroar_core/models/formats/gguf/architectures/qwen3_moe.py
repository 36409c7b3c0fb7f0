"""Qwen3 mixture of experts. llama.cpp always divides the weights of the chosen experts by their sum."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import QK_NORM, STANDARD, Architecture, Built, Config, decoder, share
from qroar_core.models.formats.gguf.experts import expert_layers
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Qwen3-MoE's config: experts in every layer."""
    count = meta.size("expert_count")
    used = share(meta, "expert_used_count", count)
    found = decoder(meta, files, "Qwen3MoeForCausalLM", "qwen3_moe")
    return found | {
        "num_experts": count,
        "num_experts_per_tok": used,
        "moe_intermediate_size": meta.size("expert_feed_forward_length", found["intermediate_size"] // used),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
        "attention_bias": False,
    }


def merged(found: Config, files: GgufFiles) -> Built:
    """The experts of every layer."""
    layers = range(found["num_hidden_layers"])
    return expert_layers(found, files, layers, found["num_experts"], found["moe_intermediate_size"])


QWEN3_MOE = Architecture(
    "qwen3moe",
    config,
    layer=STANDARD | QK_NORM | {"ffn_gate_inp": "mlp.gate"},
    merged=merged,
    no_scales="a norm follows q and k",
)
