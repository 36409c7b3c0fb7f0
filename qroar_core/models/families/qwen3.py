"""Qwen3: an RMSNorm on each head of q and k before RoPE; one gain per channel, shared by the heads of a layer."""

from qroar_core.models.families.base import Family

QWEN3 = Family(
    "qwen3",
    ("Qwen3ForCausalLM",),
    norms=("q_norm", "k_norm"),
    gain_shared=True,
    sliding="by type",
    source="transformers/models/qwen3/modeling_qwen3.py",
)
