"""transformers: QuantizedCache, backend HQQ, nbits 8, 4, 3 and 2, with axis_key = axis_value = 1.

With axis 1 HQQ cuts the tensor into sets of q_group_size 64 neighbouring channels of one token. Its default, axis 0,
is no preset: it reshapes (1, heads, tokens, head_dim) to (64, -1), so that a set is 64 numbers a fixed distance apart
in the whole tensor, across tokens and heads, and another set whenever the cache has grown.
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec


def _hqq(bits: int) -> KVPreset:
    spec = QuantizerSpec(bits, scale="block", levels="hqq", group_size=64, scale_dtype="input", residual=128)
    return KVPreset(
        spec,
        spec,
        "huggingface/transformers src/transformers/cache_utils.py HQQQuantizedLayer; mobiusml/hqq "
        "hqq/core/quantize.py, hqq/core/optimize.py (0.2.8.post1)",
        "With axis 1; the default, axis 0, groups numbers across tokens and heads by the length of the cache, which no "
        "setup here can say. On a GPU HQQ iterates in float16, here as on a CPU in float32, and stops for what is "
        "rounded at once, here a chunk of the stream, there the whole cache. As with quanto, a prompt is read exactly "
        "there and later flushes round everything again."
        + (" It packs ten numbers into 32 bits: 3.2 bits each, not 3." if bits == 3 else ""),
        asked='transformers `cache_implementation="quantized"`, `backend: hqq`, '
        f"`nbits: {bits}`, `axis_key: 1`, `axis_value: 1`",
        what="groups of 64 channels of a token, affine with an optimized zero; the newest tokens exact",
    )


RUNTIME = Runtime(32, {f"hqq{bits}": _hqq(bits) for bits in (8, 4, 3, 2)})
