"""Which channels of a model's heads turn alike under an interpolation, so that a map may mix them."""

from __future__ import annotations

from qroar_core.errors import BadScales, BadSpec
from qroar_core.maths.channel_groups import ChannelGroup
from qroar_core.models.geometry import Geometry
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales


def groups_of(geometry: Geometry, rope: RopeSpec) -> tuple[ChannelGroup, ...]:
    """Tied pairs, and channels past rotary_dim, which never turn; empty where nothing turns alike.

    Those channels do not join the pairs that stand still: an attention factor multiplies rotated channels alone.
    """
    groups = [ChannelGroup(tie.first, tie.last, still=tie.turn == 0) for tie in rope.tie]
    if rest := geometry.head_dim - geometry.rotary_dim:
        groups.append(ChannelGroup(geometry.n_pairs, geometry.n_pairs - 1, still=True, rest=rest))
    return tuple(groups)


def require_maps(geometry: Geometry, rope: RopeSpec) -> None:
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


def why_no_maps(geometry: Geometry, rope: RopeSpec) -> str:
    """Why a search could find no map, and what to do; empty where it has something to find."""
    try:
        require_maps(geometry, rope)
    except BadSpec as refusal:
        return f"{refusal.what}; {refusal.do}"
    return ""


def why_no_value_maps(geometry: Geometry, quant: QuantSpec) -> str:
    """Why a search could find no map of V, and what to do; empty where it has something to find."""
    try:
        quant.require_quantized_values()
        geometry.require_value_maps()
    except BadSpec as refusal:
        return f"{refusal.what}; {refusal.do}"
    return ""


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
