"""StableLM: LayerNorm, a part of each head turns; parallel residuals where the MLP has no norm of its own.

A LayerNorm for every head of q and k (StableLM 2 12B) is refused, as in models/families.
"""

from __future__ import annotations

from qroar_core.errors import UnsupportedModel
from qroar_core.models.formats.gguf.architecture import (
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


def config(meta: Metadata, files: GgufFiles) -> Config:
    """StableLM's config. As in llama.cpp the norm says it: the converter writes true where a config is silent."""
    found = sizes(meta, files)
    width = head_dim(meta, found)
    if has(files, "attn_q_norm.weight") or has(files, "attn_k_norm.weight"):
        raise UnsupportedModel(
            "a LayerNorm for every head of q and k is not supported",
            where=meta.where,
            do="choose a checkpoint without it, such as StableLM 2 1.6B",
        )
    parallel = not has(files, "ffn_norm.weight")
    if parallel:
        meta.only("use_parallel_residual", True, "the MLP has no norm of its own")
    meta.flag("use_parallel_residual", True)
    return found | {
        "architectures": ["StableLmForCausalLM"],
        "model_type": "stablelm",
        "hidden_act": "silu",
        "layer_norm_eps": meta.real("attention.layer_norm_epsilon"),
        "rope_parameters": partial_rotary(meta, files, width),
        "use_qkv_bias": any(has(files, leaf) for leaf in QKV_BIASES),
        "use_parallel_residual": parallel,
        "qk_layernorm": False,
        "hidden_dropout": 0.0,
    }


STABLELM = Architecture(
    "stablelm",
    config,
    no_scales="its layout is not known to the in-place writer",
    optional_biases=QKV_BIASES,
    head="always",
)
