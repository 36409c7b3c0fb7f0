"""llama.cpp: --cache-type-k/-v, every type it takes, K and V chosen apart.

Blocks of 32 channels of one token and KV head, fp16 numbers per block, K stored after RoPE. Since PR 21038
(744c0c73, 2026-04-01) Q, K and V are rotated by an orthonormal Hadamard matrix whenever the cache
type is quantized, every layer has the same head_dim and head_dim % 64 == 0: K in blocks of the
largest power of two dividing head_dim, V in blocks of 64 ("using smaller rotation matrices for V
seems beneficial"), the attention output rotated back. LLAMA_ATTN_ROT_DISABLE=1 turns it off.
Llama-family checkpoints carry Q/K rows permuted to interleaved pairs, hence K's channel order; V
keeps the model's. `qroar_core.models.family_preset` drops the permutation for families that GGUF leaves alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

BLOCK = 32  # channels; QK4_0 = QK8_0
_GGML_SOURCE = (
    "ggml-org/llama.cpp: ggml/src/ggml-quants.c quantize_row_{name}_ref; src/llama-kv-cache.cpp "
    "build_input_k_rot, build_input_v_rot, LLAMA_ATTN_ROT_DISABLE (PR 21038)"
)
_GGML_NOTE = (
    "K in the interleaved channel order of Llama-family GGUFs. CPU "
    "flash attention also rounds q to q8_0 for its dot products; not modelled. head_dim must be a multiple "
    "of 32."
)
_LLAMA_CPP_LEAST_ROTATION = 64


@dataclass(frozen=True, slots=True)
class _Type:
    bits: int
    levels: str  # a name of GRIDS
    what: str
    more: str = ""  # for the note


_TYPES = {
    "q8_0": _Type(8, "ggml_absmax", "symmetric, 255 levels", "SIMD variants round ties to even. "),
    "q5_1": _Type(5, "ggml_affine", "minimum to maximum, 32 levels"),
    "q5_0": _Type(5, "ggml_signed", "32 levels, the signed extreme exact"),
    "iq4_nl": _Type(4, "iq4_nl", "16 uneven levels, the step refitted to the codes"),
    "q4_1": _Type(4, "ggml_affine", "minimum to maximum, 16 levels"),
    "q4_0": _Type(4, "ggml_signed", "16 levels, the signed extreme exact"),
}
_FLOATS = {"f16": "float16", "bf16": "bfloat16"}
PLAIN = "-norot"  # ends the name of a type without the rotation


def _ggml(name: str, kind: _Type, rotate: bool) -> KVPreset:
    v = QuantizerSpec(kind.bits, scale="block", levels=kind.levels, group_size=BLOCK, scale_dtype="float16")
    if rotate:
        v = replace(v, rotation="hadamard", rotation_least=_LLAMA_CPP_LEAST_ROTATION)
    k = replace(v, channel_order="interleaved")
    v = replace(v, rotation_block=64) if rotate else v
    how = "Rotated if head_dim % 64 == 0, as by default. " if rotate else "As with LLAMA_ATTN_ROT_DISABLE=1. "
    turned = "rotated where head_dim is a multiple of 64" if rotate else "not rotated"
    return KVPreset(
        k,
        v,
        _GGML_SOURCE.format(name=name),
        how + kind.more + _GGML_NOTE,
        asked=f"llama.cpp `--cache-type-k {name}`, `--cache-type-v {name}`"
        + ("" if rotate else " with `LLAMA_ATTN_ROT_DISABLE=1`"),
        what=f"blocks of {BLOCK} channels of a token, {kind.what}, {turned}",
    )


def _float(name: str, dtype: str) -> KVPreset:
    spec = QuantizerSpec(16, scale="tensor", levels=name, static_scale=1.0)
    return KVPreset(
        spec,
        spec,
        "ggml-org/llama.cpp: common/arg.cpp kv_cache_types; ggml/src/ggml.c ggml_fp32_to_fp16_row, "
        "ggml_fp32_to_bf16_row",
        f"Every number in {dtype}, never rotated; what most runtimes keep when nobody asks for less."
        + (
            " The default of llama.cpp. Numbers beyond 65504 become infinite there; here they saturate."
            if name == "f16"
            else ""
        ),
        asked=f"llama.cpp `--cache-type-k {name}`, `--cache-type-v {name}`",
        what=f"{dtype}, nothing else",
    )


RUNTIME = Runtime(
    10,
    {
        **{
            f"{name}{'' if rotate else PLAIN}": _ggml(name, kind, rotate)
            for name, kind in _TYPES.items()
            for rotate in (True, False)
        },
        **{name: _float(name, dtype) for name, dtype in _FLOATS.items()},
    },
)
