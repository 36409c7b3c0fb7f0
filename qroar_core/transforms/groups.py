"""Which channels of a model's heads turn alike under an interpolation, so that a map may mix them."""

from __future__ import annotations

from qroar_core.errors import BadScales
from qroar_core.maths.channel_groups import ChannelGroup
from qroar_core.models.geometry import Geometry
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales


def groups_of(geometry: Geometry, rope: RopeSpec) -> tuple[ChannelGroup, ...]:
    """Tied pairs, and channels past rotary_dim, which never turn; empty where nothing turns alike.

    Those channels do not join the pairs that stand still: an attention factor multiplies rotated channels alone.
    """
    groups = [ChannelGroup(tie.first, tie.last, still=tie.turn == 0) for tie in rope.tie]
    if rest := geometry.head_dim - geometry.rotary_dim:
        groups.append(ChannelGroup(geometry.n_pairs, geometry.n_pairs - 1, still=True, rest=rest))
    return tuple(groups)


def require_alike(geometry: Geometry, rope: RopeSpec, scales: Scales | None) -> None:
    """Raises BadScales where a map mixes channels that do not turn alike under `rope`: the model would be another."""
    if scales is None or not scales.mixes:
        return
    for group in scales.groups:
        if not any(_within(group, other) for other in groups_of(geometry, rope)):
            pairs = f"pairs {group.first} to {group.last}" if group.pairs else "channels past the rotated ones"
            turning = "do not turn" if group.still else "share one frequency"
            raise BadScales(
                f"these scales mix {pairs} as if they {turning}, which they do not under this interpolation",
                where="scales",
                do="run with the --tie that they were searched under",
            )


def _within(group: ChannelGroup, other: ChannelGroup) -> bool:
    """True where all that `group` mixes belongs to `other`."""
    if group.rest or other.rest:
        return group.rest == other.rest
    return other.first <= group.first <= group.last <= other.last and (other.still or not group.still)
