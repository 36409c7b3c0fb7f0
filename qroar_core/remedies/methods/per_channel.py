"""K with a scale per channel, rounded before RoPE, as KIVI and KVQuant keep it."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.quantizers.grids import GRIDS
from qroar_core.quantizers.presets import KV_PRESETS
from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import Remedy

KIVI_K = replace(KV_PRESETS["kivi2"].k, before_rope=True)  # its groups and residual, on the axes before RoPE


def _under(quant: QuantSpec) -> QuantSpec | None:
    k = quant.k
    whole = k is not None and k.scale != "channel" and not GRIDS[k.levels].floating
    return replace(quant, k=replace(KIVI_K, bits=k.bits)) if k is not None and whole else None


REMEDY = Remedy(
    "K per channel before RoPE",
    20,
    "K cache",
    "every cached key rotated again at every step; two numbers a group of 32 tokens, the newest 128 exact",
    "a cache layout and an attention kernel of its own",
    "KIVI, arXiv 2402.02750 (groups of 32 tokens, residual 128); before RoPE as in KVQuant, arXiv 2401.18079",
    _under,
    needs="a K cache with scales per token, per block or per tensor, and integer levels",
    free=False,
)
