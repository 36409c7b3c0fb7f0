"""Qwen2 and Qwen2.5: biases on q, k and v."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import Architecture, Config, head_dim, sizes, whole_rotary
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.rope import rope_parameters


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Qwen2's config; llama.cpp applies no sliding window here."""
    found = sizes(meta, files)
    width = whole_rotary(meta, head_dim(meta, found))
    return found | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "head_dim": width,
        "rms_norm_eps": meta.real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope_parameters(meta, files, width),
        "use_sliding_window": False,
    }


QWEN2 = Architecture("qwen2", config)
