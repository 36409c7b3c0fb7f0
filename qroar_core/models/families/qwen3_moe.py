"""Qwen3 mixture of experts: Qwen3's attention, with the gain of its QK-norm shared by the heads of a layer."""

from qroar_core.models.families.base import Family

QWEN3_MOE = Family(
    "qwen3_moe",
    ("Qwen3MoeForCausalLM",),
    norms=("q_norm", "k_norm"),
    gain_shared=True,
    sliding="all",
    source="transformers/models/qwen3_moe/modeling_qwen3_moe.py",
)
