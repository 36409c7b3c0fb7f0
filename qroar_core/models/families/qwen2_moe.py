"""Qwen2 mixture of experts: Qwen2's attention, with biases on q, k and v, over routed and shared experts."""

from qroar_core.models.families.base import Family

QWEN2_MOE = Family(
    "qwen2_moe",
    ("Qwen2MoeForCausalLM",),
    sliding="by type",
    key_bias="qkv_bias",
    source="transformers/models/qwen2_moe/modeling_qwen2_moe.py",
)
