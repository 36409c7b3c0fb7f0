"""Qwen2 and Qwen2.5: separate projections with biases on q, k and v, which carry the scale too."""

from qroar_core.models.families.base import ALWAYS, Family

QWEN2 = Family(
    "qwen2",
    ("Qwen2ForCausalLM",),
    key_bias=ALWAYS,
    gguf_written="qwen2",
    sliding="by type",
    source="transformers/models/qwen2/modeling_qwen2.py",
)
