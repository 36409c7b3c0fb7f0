"""KIVI as it is: K per channel after RoPE in blocks of tokens, V per token, the newest tokens in full precision."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.quantizers.grids import GRIDS
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.quantizers.spec import QuantizerSpec, QuantSpec
from qroar_core.remedies.remedy import Remedy

KIVI = KV_PRESETS["kivi2"]
PACKED = (2, 4, 8)  # bits that its kernels pack


def _packed(spec: QuantizerSpec) -> bool:
    return spec.bits in PACKED and spec.scale != "channel" and not GRIDS[spec.levels].floating


def _under(quant: QuantSpec) -> QuantSpec | None:
    if quant.k is None or not all(_packed(spec) for spec in (quant.k, quant.v) if spec is not None):
        return None
    v = quant.v and replace(KIVI.v, bits=quant.v.bits)
    return replace(quant, k=replace(KIVI.k, bits=quant.k.bits), v=v)


REMEDY = Remedy(
    "KIVI",
    22,
    "K and V cache",
    "two numbers a channel and group of 32 tokens of K, and a token and group of 32 channels of V; the newest 1 to "
    "128 tokens exact, where KIVI's code keeps 128 of V at all times",
    "a cache layout and an attention kernel of its own",
    "KIVI, arXiv 2402.02750, groups of 32, residual 128; V only where it is quantized",
    _under,
    needs="a K cache, and a V cache if there is one, of 2, 4 or 8 bits with integer levels and no scale per channel",
    free=False,
)
