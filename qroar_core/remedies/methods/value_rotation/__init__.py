"""A Hadamard rotation of V, folded into W_V and W_O."""

from __future__ import annotations

from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import FREE, Remedy


def _under(quant: QuantSpec) -> QuantSpec | None:
    return quant if quant.v is not None and quant.v.rotated is not None else None


REMEDY = Remedy(
    "Hadamard rotation of V, offline",
    34,
    "V cache",
    FREE,
    "nothing: inside W_V and W_O, before those are quantized",
    "QuaRot, arXiv 2404.00456, section 4; SpinQuant's R2, arXiv 2405.16406",
    _under,
    needs="a V cache per token or per block that is not rotated already",
)
