"""Which models take a K offset, and when any channel stands still."""

from __future__ import annotations

from qroar_core.errors import BadSpec
from qroar_core.models.geometry import Geometry
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.groups import still_channels


def require(geometry: Geometry, rope: RopeSpec, quant: QuantSpec) -> None:
    """Raises BadSpec where every channel of K turns, the layout takes no constant off it, or no file could hold it."""
    geometry.require_k_offset()
    geometry.require_written_k_offset()
    if not bool(still_channels(geometry, rope).any()):
        raise BadSpec(
            "every channel of K turns, and a constant would turn with it",
            where="--k-offset",
            do=f"tie slow pairs to stand still, for example {_slowest(geometry)}:0, as tied pairs of the interpolation",
        )


def _slowest(geometry: Geometry) -> str:
    """About a fifth of the pairs, the slowest, as a tie is written."""
    last = geometry.n_pairs - 1
    return f"{last - geometry.n_pairs // 6}-{last}"
