"""Llama 1 to 3, Mistral and SmolLM2; Mixtral where there are experts. Rows of W_Q and W_K are kept pair by pair.

A GGUF has no key for Mistral's sliding window: llama.cpp does not apply one here, and neither is one made up.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import (
    FREQS,
    LONG,
    MLP,
    PAIRED,
    SHORT,
    STANDARD,
    Architecture,
    Built,
    Config,
    has,
    head_dim,
    sizes,
    whole_rotary,
)
from qroar_core.models.formats.gguf.experts import expert_layers
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.rope import rope_parameters

BIASES = ("attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias")


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Llama's config, Mixtral's where expert_count is above 0."""
    found = sizes(meta, files)
    width = whole_rotary(meta, head_dim(meta, found))
    count = meta.size("expert_count", 0, least=0)
    used = meta.size("expert_used_count", 0, least=0)
    found |= {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "head_dim": width,
        "rms_norm_eps": meta.real("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope_parameters(meta, files, width),
        "attention_bias": any(has(files, leaf) for leaf in BIASES),
        "mlp_bias": any(has(files, f"{leaf}.bias") for leaf in MLP),
    }
    if not count:
        return found
    if not 1 <= used <= count:
        raise meta.wrong("expert_used_count", used)
    for name in ("attention_bias", "mlp_bias"):
        del found[name]  # Mixtral has none: a file with biases is refused
    return found | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": count,
        "num_experts_per_tok": used,
        "sliding_window": None,
    }


def merged(found: Config, files: GgufFiles) -> Built:
    """Mixtral's experts."""
    if found["model_type"] == "llama":
        return {}
    layers = range(found["num_hidden_layers"])
    return expert_layers(found, files, layers, found["num_local_experts"], found["intermediate_size"])


LLAMA = Architecture(
    "llama",
    config,
    layer=STANDARD | {"ffn_gate_inp": "mlp.gate"},
    moved=PAIRED,
    merged=merged,
    factors=(FREQS, LONG, SHORT),
)
