"""Qwen3.5 (text): Qwen3-Next's attention. Its RoPE has sections for images; a text has the same position in all."""

from qroar_core.models.families.qwen3_next import GatedHybrid

QWEN3_5 = GatedHybrid(
    "qwen3_5",
    ("Qwen3_5ForCausalLM",),
    norms=("q_norm", "k_norm"),
    gain_offset=1.0,
    gain_shared=True,
    partial=True,
    source="transformers/models/qwen3_5/modeling_qwen3_5.py",
)
