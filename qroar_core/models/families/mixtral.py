"""Mixtral: Mistral's attention over experts, which take no scale."""

from qroar_core.models.families.base import Family

MIXTRAL = Family(
    "mixtral",
    ("MixtralForCausalLM",),
    sliding="all",
    gguf_permutes=True,
    source="transformers/models/mixtral/modeling_mixtral.py",
)
