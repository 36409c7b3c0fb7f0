"""mlx-lm: --kv-bits 4.

QuantizedKVCache.update_and_fetch calls mx.quantize(keys, group_size=64, bits): MLX affine along head_dim, scales and
biases in keys.dtype, no rotation (PR 1555 was closed unmerged).
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

_MLX4 = QuantizerSpec(4, scale="block", levels="mlx_affine", group_size=64, scale_dtype="input")

RUNTIME = Runtime(
    20,
    {
        "mlx4": KVPreset(
            _MLX4,
            _MLX4,
            "ml-explore/mlx-lm mlx_lm/models/cache.py QuantizedKVCache; ml-explore/mlx "
            "mlx/backend/cpu/quantized.cpp quantize",
            "Quantized from the first token (the Python API's quantized_kv_start=0); mlx_lm.generate's command "
            "line waits for 5000 tokens. head_dim must be a multiple of 64.",
        ),
    },
)
