"""A Hadamard rotation of q and k before the cache rounds."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import Remedy


def _under(quant: QuantSpec) -> QuantSpec | None:
    turned = [spec and spec.rotated for spec in (quant.k, quant.qk)]
    return replace(quant, k=turned[0] or quant.k, qk=turned[1] or quant.qk) if any(turned) else None


REMEDY = Remedy(
    "Hadamard rotation of q and k",
    30,
    "K cache",
    "one Hadamard transform a token, layer and head, online",
    "a rotation before the cache (llama.cpp has it)",
    "QuaRot's R3, arXiv 2404.00456; llama.cpp PR 21038",
    _under,
    needs="a K cache per token or per block that is not rotated already",
    free=False,
)
