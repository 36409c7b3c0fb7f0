"""One static scale of K and of V per layer, chosen on calibration text: what a checkpoint gives vLLM's fp8 cache."""

from __future__ import annotations

from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import FREE, READY, Remedy


def _under(quant: QuantSpec) -> QuantSpec | None:
    caches = [spec for spec in (quant.k, quant.v) if spec is not None]
    return quant if any(spec.scale == "tensor" and spec.bits <= 8 for spec in caches) else None  # 16 bits need no scale


REMEDY = Remedy(
    "calibrated static scales",
    14,
    "K and V cache",
    FREE,
    "nothing where the checkpoint carries them (vLLM reads a k_scale and a v_scale a layer for its fp8 cache); exports "
    "write those of the whole range, with --cache-scales",
    "this calibration: the present scale, and 1, 0.95 .. 0.5 of the calibrated range, on captured attention",
    _under,
    needs="a K or V cache with one static scale a layer (fp8, or --kv-scale tensor)",
    alone=True,
    work=READY,
)
