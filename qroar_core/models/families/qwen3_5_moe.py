"""Qwen3.5 mixture of experts (text): Qwen3.5's attention."""

from qroar_core.models.families.qwen3_next import GatedHybrid

QWEN3_5_MOE = GatedHybrid(
    "qwen3_5_moe",
    ("Qwen3_5MoeForCausalLM",),
    norms=("q_norm", "k_norm"),
    gain_offset=1.0,
    gain_shared=True,
    partial=True,
    source="transformers/models/qwen3_5_moe/modeling_qwen3_5_moe.py",
)
