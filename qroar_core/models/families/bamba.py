"""Bamba: Mamba 2 between layers of attention, which rotate half of each head."""

from qroar_core.models.families.hybrid import Hybrid

BAMBA = Hybrid(
    "bamba",
    ("BambaForCausalLM",),
    partial=True,
    gguf_permutes=True,  # all channels of a head, the unrotated half too
    source="transformers/models/bamba/modeling_bamba.py",
)
