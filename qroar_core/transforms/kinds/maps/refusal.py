"""Which models take maps, and when any channels turn alike."""

from __future__ import annotations

from qroar_core.errors import BadSpec
from qroar_core.models.geometry import Geometry
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.groups import groups_of


def require(geometry: Geometry, rope: RopeSpec, quant: QuantSpec) -> None:
    """Raises BadSpec where a search could find no map: nothing turns alike, or the layout takes none."""
    where = "--maps"
    if geometry.scaled_gain:
        raise BadSpec(
            f"{geometry.family} normalises q and k before RoPE, and the norm's gain cannot mix channels",
            where=where,
            do="search scales alone",
        )
    if geometry.latent_dim:
        raise BadSpec(
            f"{geometry.family}'s cache holds a latent and one rotated key per token, no K of its heads to be mixed",
            where=where,
            do="search scales alone",
        )
    if len(set(geometry.rope_kinds)) > 1:
        raise BadSpec(
            f"layers of {geometry.family} turn by frequencies of their own, and a map fits one of them",
            where=where,
            do="search scales and angles",
        )
    if not groups_of(geometry, rope):
        raise BadSpec(
            "every RoPE pair turns at a frequency of its own, so no map commutes with them",
            where=where,
            do="tie neighbouring slow pairs, for example 22-25,26-31:0, by --tie or as Tied pairs on the Start page",
        )
