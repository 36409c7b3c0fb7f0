"""ExLlamaV3: CacheLayer_quant, 2 to 8 bits, K and V chosen apart.

Groups of 32 channels are rotated by an orthonormal Hadamard matrix of 32 and stored with their largest magnitude.
"""

from __future__ import annotations

from qroar_core.quantizers.preset import KVPreset, Runtime
from qroar_core.quantizers.spec import QuantizerSpec

GROUP = 32
BITS = (8, 7, 6, 5, 4, 3, 2)


def _cache(bits: int) -> KVPreset:
    spec = QuantizerSpec(
        bits,
        scale="block",
        levels="midpoints",
        group_size=GROUP,
        scale_dtype="float16",
        rotation="hadamard",
        rotation_block=GROUP,
    )
    return KVPreset(
        spec,
        spec,
        "turboderp-org/exllamav3 exllamav3/cache/quant.py CacheLayer_quant; "
        "exllamav3/exllamav3_ext/cache/q_cache_kernels.cuh (4f8ad012, 1.4.1)",
        "Without the compander (compand_a 0, as by default); older versions round to another grid. K and V are float16 "
        "before they are rounded and after. No level is at zero. head_dim must be a multiple of 32.",
        asked=f"ExLlamaV3 `-cq {bits}`, or `-cq K,V`",
        what="groups of 32 channels of a token, rotated, even cells read as their middle",
    )


RUNTIME = Runtime(65, {f"exl{bits}": _cache(bits) for bits in BITS})
