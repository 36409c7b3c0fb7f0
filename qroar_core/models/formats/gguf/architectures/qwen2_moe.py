"""Qwen2 mixture of experts (Qwen1.5-MoE, Qwen2-57B-A14B): a shared expert behind a gate of its own.

llama.cpp never divides the weights of the chosen experts by their sum here.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import STANDARD, Architecture, Built, Config, decoder, share
from qroar_core.models.formats.gguf.experts import expert_layers
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.reading import TensorPart, assembled

SHARED = {f"ffn_{x}_shexp": f"mlp.shared_expert.{x}_proj" for x in ("gate", "up", "down")}
GATES = {"ffn_gate_inp": "mlp.gate", "ffn_gate_inp_shexp": "mlp.shared_expert_gate"}


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Qwen2-MoE's config: experts in every layer."""
    count = meta.size("expert_count")
    used = share(meta, "expert_used_count", count)
    found = decoder(meta, files, "Qwen2MoeForCausalLM", "qwen2_moe")
    return found | {
        "num_experts": count,
        "num_experts_per_tok": used,
        "moe_intermediate_size": meta.size("expert_feed_forward_length", found["intermediate_size"] // used),
        "shared_expert_intermediate_size": meta.size("expert_shared_feed_forward_length", found["intermediate_size"]),
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
        "qkv_bias": True,
    }


def merged(found: Config, files: GgufFiles) -> Built:
    """The routed experts of every layer; the gate of the shared one is one row, which a file may keep as a list."""
    layers = range(found["num_hidden_layers"])
    built = expert_layers(found, files, layers, found["num_experts"], found["moe_intermediate_size"])
    for i in layers:
        name = f"blk.{i}.ffn_gate_inp_shexp.weight"
        source = files.tensors.get(name)
        if source is not None and source.shape == (found["hidden_size"],):
            stored = assembled((1, found["hidden_size"]), [TensorPart(source)])
            built[f"model.layers.{i}.mlp.shared_expert_gate.weight"] = stored, (name,)
    return built


QWEN2_MOE = Architecture(
    "qwen2moe",
    config,
    layer=STANDARD | SHARED | GATES,
    merged=merged,
    no_scales="its layout is not known to the in-place writer",
)
