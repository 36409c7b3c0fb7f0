"""Which kinds of transform a search could find under a setting: what the `refusal.py` of each kind says."""

from __future__ import annotations

from importlib import import_module

from qroar_core.errors import BadSpec
from qroar_core.models.geometry import Geometry
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.registry import switches


def require(name: str, geometry: Geometry, rope: RopeSpec, quant: QuantSpec) -> None:
    """Raises BadSpec where a search could find nothing of the kind `name`: no room for it, or the layout takes none."""
    import_module(f"qroar_core.transforms.kinds.{name}.refusal").require(geometry, rope, quant)


def why_not(geometry: Geometry, rope: RopeSpec, quant: QuantSpec) -> dict[str, str]:
    """Kinds of which a search could find nothing: why, and what to do."""
    found = {}
    for name in switches():
        try:
            require(name, geometry, rope, quant)
        except BadSpec as refusal:
            found[name] = f"{refusal.what}; {refusal.do}"
    return found
