"""Command-R: one norm before attention and MLP side by side, a scale on the logits, no output head of its own."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import (
    ATTENTION,
    MLP,
    QK_NORM,
    Architecture,
    Config,
    has,
    head_dim,
    sizes,
    whole_rotary,
)
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import rope_parameters


def cohere(meta: Metadata, files: GgufFiles, kind: str, model_type: str) -> Config:
    """What Command-R and its successor share."""
    found = sizes(meta, files)
    width = whole_rotary(meta, head_dim(meta, found))
    return found | {
        "architectures": [kind],
        "model_type": model_type,
        "hidden_act": "silu",
        "head_dim": width,
        "layer_norm_eps": meta.real("attention.layer_norm_epsilon"),
        "rope_parameters": rope_parameters(meta, files, width),
        "logit_scale": meta.real("logit_scale"),
        "attention_bias": False,
    }


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Command-R's config; the Plus model has a norm on q and k."""
    return cohere(meta, files, "CohereForCausalLM", "cohere") | {"use_qk_norm": has(files, "attn_q_norm.weight")}


COMMAND_R = Architecture(
    "command-r",
    config,
    layer=ATTENTION | MLP | QK_NORM,
    head="never",
    no_scales="its layout is not known to the in-place writer",
)
