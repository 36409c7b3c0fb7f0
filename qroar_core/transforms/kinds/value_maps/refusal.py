"""Which models take value maps, and when those can help."""

from __future__ import annotations

from qroar_core.models.geometry import Geometry
from qroar_core.specs import QuantSpec, RopeSpec


def require(geometry: Geometry, rope: RopeSpec, quant: QuantSpec) -> None:
    """Raises BadSpec where V is not rounded, or something between V and W_O tells its channels apart."""
    quant.require_quantized_values()
    geometry.require_value_maps()
