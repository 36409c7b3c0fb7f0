"""Which model, interpolation and quantizers a diagnosis is of: what decides whether a search may take it."""

from __future__ import annotations

from typing import Any

from qroar_core.result import Result
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.specs.written import written


class MeasuredOn(Result):
    """The model by its fingerprint, and the specs as `specs.written` has them."""

    model: str
    fingerprint: str
    rope: dict[str, Any]
    quantization: dict[str, Any]

    @classmethod
    def of(cls, model: str, fingerprint: str, rope: RopeSpec, quant: QuantSpec) -> MeasuredOn:
        """As its file gives it back; a quantizer's name decides nothing and is left out."""
        quantization = {name: value for name, value in written(quant).items() if name != "name"}
        return cls(model=model, fingerprint=fingerprint, rope=written(rope), quantization=quantization).as_written()
