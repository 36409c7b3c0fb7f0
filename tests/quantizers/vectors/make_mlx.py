"""Writes mlx.npz: keys through MLX's own quantize and dequantize, on a CPU. Needs mlx and mlx-cpu on PYTHONPATH:

pip install --target /tmp/mlx --no-deps mlx==0.32.0 mlx-cpu==0.32.0
PYTHONPATH=/tmp/mlx:. python -m tests.quantizers.vectors.make_mlx
"""

import mlx.core as mx
import numpy as np

from tests.quantizers.vectors.drawn import HERE, keys

mx.set_default_device(mx.cpu)
x = mx.array(keys().numpy())
kept = {"version": np.array(mx.__version__)}
for bits in (2, 3, 4, 5, 6, 8):
    parts = mx.quantize(x, group_size=64, bits=bits)
    kept[f"mlx{bits}"] = np.array(mx.dequantize(*parts, group_size=64, bits=bits))
fp4 = mx.quantize(x, group_size=16, bits=4, mode="nvfp4")
kept["nvfp4"] = np.array(mx.dequantize(*fp4, group_size=16, bits=4, mode="nvfp4").astype(mx.float32))
np.savez_compressed(HERE / "mlx.npz", **kept)
