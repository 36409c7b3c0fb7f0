"""Mistral 7B, Mistral Nemo (head_dim 128 at hidden 5120): separate projections, optional sliding window."""

from qroar_core.models.families.base import Family

MISTRAL = Family(
    "mistral",
    ("MistralForCausalLM",),
    sliding="all",
    gguf_written="llama",
    gguf_permutes=True,
    source="transformers/models/mistral/modeling_mistral.py",
)
