"""Granite: Llama with scales on embedding, attention, residuals and logits."""

from __future__ import annotations

from qroar_core.models.formats.gguf.architecture import MLP_BIASES, PAIRED, Architecture, Config, decoder
from qroar_core.models.formats.gguf.architectures.llama import BIASES, biases
from qroar_core.models.formats.gguf.files import GgufFiles
from qroar_core.models.formats.gguf.metadata import Metadata
from qroar_core.models.formats.gguf.read_rope import FREQS, LONG, SHORT


def config(meta: Metadata, files: GgufFiles) -> Config:
    """Granite's config. Without "finetuned" llama.cpp turns nothing here: a model without positions."""
    meta.only("expert_count", 0)
    meta.only("expert_used_count", 0)
    meta.only("rope.scaling.finetuned", True, "false means no RoPE in this architecture")
    found = decoder(meta, files, "GraniteForCausalLM", "granite")
    if found["head_dim"] != found["hidden_size"] // found["num_attention_heads"]:
        raise meta.wrong("attention.key_length", found["head_dim"])
    return (
        found
        | biases(files)
        | {
            "embedding_multiplier": meta.real("embedding_scale"),
            "attention_multiplier": meta.real("attention.scale"),
            "residual_multiplier": meta.real("residual_scale"),
            "logits_scaling": meta.real("logit_scale"),
        }
    )


GRANITE = Architecture(
    "granite",
    config,
    moved=PAIRED,
    optional_biases=(*BIASES, *MLP_BIASES),
    factors=(FREQS, LONG, SHORT),
)
