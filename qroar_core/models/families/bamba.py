"""Bamba: Mamba 2 between layers of attention, which rotate half of each head."""

from qroar_core.models.families.hybrid import Hybrid

BAMBA = Hybrid("bamba", ("BambaForCausalLM",), partial=True, source="transformers/models/bamba/modeling_bamba.py")
