"""Which models take a polish, and when anything is tied."""

from __future__ import annotations

from qroar_core.errors import BadSpec
from qroar_core.models.geometry import Geometry
from qroar_core.specs import QuantSpec, RopeSpec


def require(geometry: Geometry, rope: RopeSpec, quant: QuantSpec) -> None:
    """Raises BadSpec where no pairs are tied, or the layout takes no matrix of a head's own."""
    geometry.require_polish()
    if not rope.tie:
        raise BadSpec(
            "a polish takes back what tied pairs cost, and no pairs are tied",
            where="--polish",
            do="tie neighbouring slow pairs, for example 22-25,26-31:0, by --tie or as Tied pairs on the Start page",
        )
