"""GLM-4 (0414): norms before and behind attention and MLP, half of each head turns, gate and up in one matrix."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import (
    ATTENTION,
    QKV_BIASES,
    Architecture,
    Config,
    has,
    head_dim,
    partial_rotary,
    sizes,
)
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata

LAYER = ATTENTION | {
    "post_attention_norm": "post_self_attn_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_mlp_layernorm",
}


def config(meta: Metadata, files: GgufFiles) -> Config:
    """GLM-4's config."""
    found = sizes(meta, files)
    width = head_dim(meta, found)
    return found | {
        "architectures": ["Glm4ForCausalLM"],
        "model_type": "glm4",
        "hidden_act": "silu",
        "head_dim": width,
        "rms_norm_eps": meta.real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": partial_rotary(meta, files, width),
        "attention_bias": any(has(files, leaf) for leaf in QKV_BIASES),
    }


GLM4 = Architecture(
    "glm4", config, layer=LAYER, optional_biases=QKV_BIASES, no_scales="its layout is not known to the in-place writer"
)
