"""LFM2: short convolutions between layers of attention; a QK-norm whose gain all heads share."""

from qroar_core.models.families.hybrid import Hybrid

LFM2 = Hybrid(
    "lfm2",
    ("Lfm2ForCausalLM",),
    output="out_proj",
    norms=("q_layernorm", "k_layernorm"),
    gain_shared=True,
    source="transformers/models/lfm2/modeling_lfm2.py",
)
