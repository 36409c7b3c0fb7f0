"""K with a scale per channel, rounded before RoPE, as KVQuant keeps it."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.quantizers.grids import GRIDS
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import Remedy

BY_GROUP = replace(KV_PRESETS["kivi2"].k, before_rope=True)  # KIVI's groups and residual, on the axes before RoPE


def _under(quant: QuantSpec) -> QuantSpec | None:
    k = quant.k
    whole = k is not None and k.scale != "channel" and not GRIDS[k.levels].floating
    return replace(quant, k=replace(BY_GROUP, bits=k.bits)) if k is not None and whole else None


REMEDY = Remedy(
    "KVQuant (K per channel before RoPE)",
    20,
    "K cache",
    "every cached key rotated again at every step; two numbers a channel and group of 32 tokens, the newest 128 exact",
    "a cache layout and an attention kernel of its own",
    "KVQuant, arXiv 2401.18079, sections 3.1 and 3.2, with even levels from groups of 32 tokens in place of its "
    "calibrated uneven ones, and without its sparse outliers",
    _under,
    needs="a K cache with scales per token, per block or per tensor, and integer levels",
    free=False,
)
