"""mlx-lm: --kv-bits 8, 6, 5, 4, 3, 2.

QuantizedKVCache.update_and_fetch calls mx.quantize(keys, group_size=64, bits): MLX affine along head_dim, scales and
biases in keys.dtype, no rotation (PR 1555 was closed unmerged).
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

BITS = (8, 6, 5, 4, 3, 2)  # what mx.quantize takes in its affine mode


def _mlx(bits: int) -> KVPreset:
    spec = QuantizerSpec(bits, scale="block", levels="mlx_affine", group_size=64, scale_dtype="input")
    return KVPreset(
        spec,
        spec,
        "ml-explore/mlx-lm mlx_lm/models/cache.py QuantizedKVCache (d78bf58e); ml-explore/mlx "
        "mlx/backend/cpu/quantized.cpp quantize (846d1762)",
        "Quantized from the first token (the Python API's quantized_kv_start=0); its command "
        "lines wait for 5000 tokens unless told. head_dim must be a multiple of 64.",
        asked=f"mlx-lm `--kv-bits {bits}`",
        what="affine groups of 64 channels of a token, zero on the grid, from the first token on",
        flags=("--kv-bits", str(bits), "--quantized-kv-start", "0"),
    )


RUNTIME = Runtime(20, {f"mlx{bits}": _mlx(bits) for bits in BITS})
