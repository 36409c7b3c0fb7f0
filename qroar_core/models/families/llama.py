"""Llama 2/3, SmolLM2, TinyLlama, Yi: separate projections, half pairing, optional biases."""

from qroar_core.models.families.base import Family

LLAMA = Family(
    "llama",
    ("LlamaForCausalLM",),
    gguf_written="llama",
    gguf_permutes=True,
    source="transformers/models/llama/modeling_llama.py",
)
