"""Phi-3 and Phi-4: q, k and v in one matrix, gate and up in another; LongRoPE's two lists; a part of a head may turn.

`attention.sliding_window` is kept as the model was trained with it (0: none); llama.cpp reads it and slides nowhere.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import STANDARD, Architecture, Config, head_dim, partial_rotary, sizes
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import LONG, SHORT

LAYER = {
    "attn_norm": STANDARD["attn_norm"],
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": STANDARD["ffn_norm"],
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Phi-3's config."""
    found = sizes(meta, files)
    rope = partial_rotary(meta, files, head_dim(meta, found))
    original = meta.size("rope.scaling.original_context_length", found["max_position_embeddings"])
    return found | {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "hidden_act": "silu",
        "rms_norm_eps": meta.real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
        "original_max_position_embeddings": rope.get("original_max_position_embeddings", original),
        "sliding_window": meta.size("attention.sliding_window", 0, least=0) or None,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
    }


PHI3 = Architecture("phi3", config, layer=LAYER, factors=(LONG, SHORT), no_scales="q, k and v are one matrix")
