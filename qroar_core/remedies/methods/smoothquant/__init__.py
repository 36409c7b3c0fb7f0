"""SmoothQuant: outliers of a linear's inputs moved into its weights."""

from __future__ import annotations

from qroar_core.quantizers.spec import QuantSpec
from qroar_core.remedies.remedy import FREE, READY, Remedy


def _under(quant: QuantSpec) -> QuantSpec | None:
    return quant if quant.activations is not None else None


REMEDY = Remedy(
    "SmoothQuant",
    60,
    "activations",
    FREE,
    "nothing: scales inside the weights and the norms before them",
    "arXiv 2211.10438, equation 4, alpha 0.5",
    _under,
    needs="linear inputs that are quantized (--activations)",
    work=READY,
)
