"""llama.cpp: --cache-type-k/-v q8_0, q5_0, q4_0.

Blocks of 32 channels of one token and KV head, fp16 d, K stored after RoPE. Since PR 21038
(744c0c73, 2026-04-01) Q, K and V are rotated by an orthonormal Hadamard matrix whenever the cache
type is quantized, every layer has the same head_dim and head_dim % 64 == 0: K in blocks of the
largest power of two dividing head_dim, V in blocks of 64 ("using smaller rotation matrices for V
seems beneficial"), the attention output rotated back. LLAMA_ATTN_ROT_DISABLE=1 turns it off.
Llama-family checkpoints carry Q/K rows permuted to interleaved pairs, hence K's channel order; V
keeps the model's. `qroar_core.models.family_preset` drops the permutation for families that GGUF leaves alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

BLOCK = 32  # channels; QK4_0 = QK8_0
_GGML_SOURCE = (
    "ggml-org/llama.cpp: ggml/src/ggml-quants.c quantize_row_{q8_0,q4_0,q5_0}_ref; src/llama-kv-cache.cpp "
    "build_input_k_rot, build_input_v_rot, LLAMA_ATTN_ROT_DISABLE (PR 21038)"
)
_GGML_NOTE = (
    "K in the interleaved channel order of Llama-family GGUFs. SIMD variants of q8_0 round ties to even. CPU "
    "flash attention also rounds q to q8_0 for its dot products; not modelled. head_dim must be a multiple "
    "of 32."
)
_LLAMA_CPP_LEAST_ROTATION = 64


def _ggml(bits: int, levels: Literal["ggml_absmax", "ggml_signed"], rotate: bool) -> KVPreset:
    v = QuantizerSpec(bits, scale="block", levels=levels, group_size=BLOCK, scale_dtype="float16")
    if rotate:
        v = replace(v, rotation="hadamard", rotation_least=_LLAMA_CPP_LEAST_ROTATION)
    k = replace(v, channel_order="interleaved")
    v = replace(v, rotation_block=64) if rotate else v
    how = "Rotated if head_dim % 64 == 0, as by default. " if rotate else "As with LLAMA_ATTN_ROT_DISABLE=1. "
    return KVPreset(k, v, _GGML_SOURCE, how + _GGML_NOTE)


RUNTIME = Runtime(
    10,
    {
        "q8_0": _ggml(8, "ggml_absmax", rotate=True),
        "q8_0-norot": _ggml(8, "ggml_absmax", rotate=False),
        "q5_0": _ggml(5, "ggml_signed", rotate=True),
        "q4_0": _ggml(4, "ggml_signed", rotate=True),
        "q4_0-norot": _ggml(4, "ggml_signed", rotate=False),
    },
)
