"""Which models take pair angles."""

from __future__ import annotations

from qroar_core.models.geometry import Geometry
from qroar_core.specs import QuantSpec, RopeSpec


def require(geometry: Geometry, rope: RopeSpec, quant: QuantSpec) -> None:
    """Raises BadSpec where a QK-norm before RoPE takes scales alone."""
    geometry.require_turns()
