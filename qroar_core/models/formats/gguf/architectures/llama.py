"""Llama 1 to 3, Mistral and SmolLM2; Mixtral where there are experts. Rows of W_Q and W_K are kept pair by pair.

A GGUF has no key for Mistral's sliding window: llama.cpp does not apply one here, and neither is one made up.
"""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import (
    MLP_BIASES,
    PAIRED,
    QKV_BIASES,
    STANDARD,
    Architecture,
    Built,
    Config,
    decoder,
    has,
)
from qroar_core.models.formats.gguf.experts import expert_layers
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import FREQS, LONG, SHORT

BIASES = (*QKV_BIASES, "attn_output.bias")


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Llama's config, Mixtral's where expert_count is above 0."""
    count = meta.size("expert_count", 0, least=0)
    used = meta.size("expert_used_count", 0, least=0)
    if not count:
        return decoder(meta, files, "LlamaForCausalLM", "llama") | biases(files)
    if not 1 <= used <= count:
        raise meta.wrong("expert_used_count", used)
    return decoder(meta, files, "MixtralForCausalLM", "mixtral") | {
        "num_local_experts": count,
        "num_experts_per_tok": used,
        "sliding_window": None,
    }


def biases(files: GgufFiles) -> Config:
    """Which projections have biases; no key says it."""
    return {
        "attention_bias": any(has(files, leaf) for leaf in BIASES),
        "mlp_bias": any(has(files, leaf) for leaf in MLP_BIASES),
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
    optional_biases=(*BIASES, *MLP_BIASES),
    factors=(FREQS, LONG, SHORT),
)
