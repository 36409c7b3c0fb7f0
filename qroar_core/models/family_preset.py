"""A runtime's preset as it meets one family: whether llama.cpp's K cache holds the channels in another order.

The converter of llama.cpp (conversion/llama.py, `LlamaModel.permute`, where `undo_permute` is set) moves rows i and
i + head_dim/2 of every head of W_Q and W_K to 2i and 2i + 1: over the whole head, also where only part of it rotates
(Bamba). It does so for its LlamaModel and what inherits from it; other families keep the model's order, whether their
pairs are interleaved already (Cohere, GLM-4, DeepSeek) or llama.cpp rotates them as they are (NeoX: Qwen, Gemma, Phi-3,
OLMo 2, Falcon-H1, LFM2).
"""

from __future__ import annotations

from dataclasses import replace

from qroar_core.models.families import FAMILIES
from qroar_core.quantizers.spec import QuantSpec

_PERMUTED = frozenset(family.name for family in FAMILIES if family.gguf_permutes)


def for_family(quant: QuantSpec, family: str) -> QuantSpec:
    """`quant` as llama.cpp runs it on a model of this family (`Geometry.family`): only K's order can change."""
    if quant.k is None or quant.k.channel_order == "model" or family in _PERMUTED:
        return quant
    return replace(quant, k=replace(quant.k, channel_order="model"))
