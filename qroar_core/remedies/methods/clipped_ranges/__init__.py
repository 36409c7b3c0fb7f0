"""Ranges of K and V clipped by one ratio per layer and KV head, chosen on calibration text."""

from __future__ import annotations

from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import READY, Remedy


def _under(quant: QuantSpec) -> QuantSpec | None:
    return quant if any(spec is not None and spec.takes_clip for spec in (quant.k, quant.v)) else None


REMEDY = Remedy(
    "clipped ranges",
    12,
    "K and V cache",
    "one multiplication a scale that is stored",
    "a cache that multiplies each token's or block's absmax by a ratio of the layer and KV head, and saturates beyond",
    "this calibration: 1, 0.95 .. 0.5 on captured attention",
    _under,
    needs="a K or V cache of symmetric integers with a scale per token or per block",
    free=False,
    alone=True,
    work=READY,
)
