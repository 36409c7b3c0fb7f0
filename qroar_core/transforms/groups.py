"""Which channels of a model's heads turn alike under an interpolation, so that a map may mix them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

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


def still_channels(geometry: Geometry, rope: RopeSpec) -> Tensor:
    """Channels of each layer's heads that do not turn, so that a constant may be taken off K there.

    Returns:
        bool, (layers, head_dim): all of a layer without RoPE; elsewhere pairs that are tied to stand still, and
        channels past the rotated ones.
    """
    out = torch.zeros(geometry.n_layers, geometry.head_dim, dtype=torch.bool)
    for layer in range(geometry.n_layers):
        if layer in geometry.without_rope:
            out[layer] = True
            continue
        for group in groups_of(geometry, rope):  # only layers that the interpolation changes have its ties
            if group.still and (group.rest or geometry.kind_of(layer) == geometry.interpolated_kind):
                out[layer, group.channels(geometry.rotary_dim, geometry.pairing)] = True
    return out


def require_alike(geometry: Geometry, rope: RopeSpec, scales: Scales | None) -> None:
    """Raises BadScales where scales would make another model of it under `rope`.

    A map mixes channels that do not turn alike, something is taken off channels of K that turn, or a polish is of other
    ties than these.
    """
    if scales is None:
        return
    if scales.polish is not None:
        for group in scales.polish.groups:
            if group not in groups_of(geometry, rope):
                held = "stood still" if group.still else "shared one frequency"
                raise BadScales(
                    f"these scales polish pairs {group.first} to {group.last} as if they {held}, "
                    "which they do not under this interpolation",
                    where="scales",
                    do="run with the --tie that they were searched under",
                )
    if scales.k_offset is not None and _moves_turning(geometry, rope, scales.k_offset):
        raise BadScales(
            "these scales take a constant off channels of K that turn under this interpolation",
            where="scales",
            do="run with the --tie that they were searched under",
        )
    if not scales.mixes:
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


def part_alike(geometry: Geometry, rope: RopeSpec, scales: Scales | None) -> Scales | None:
    """What of `scales` makes the same model under `rope`, too: without maps, constants and a polish of other ties."""
    if scales is None:
        return None
    here = groups_of(geometry, rope)
    mixed = [i for i, group in enumerate(scales.groups) if any(_within(group, other) for other in here)]
    offset, polish = scales.k_offset, scales.polish
    if offset is not None and _moves_turning(geometry, rope, offset):
        offset = offset.where(_still(geometry, rope, offset), torch.zeros_like(offset))
    if polish is not None and not set(polish.groups) <= set(here):
        polish = None
    groups, maps = tuple(scales.groups[i] for i in mixed), tuple(scales.maps[i] for i in mixed)
    return replace(scales, groups=groups, maps=maps, k_offset=offset, polish=polish)


def _moves_turning(geometry: Geometry, rope: RopeSpec, offset: Tensor) -> bool:
    """True where the offset takes something off a channel that turns."""
    return bool((offset != 0)[~_still(geometry, rope, offset)].any())


def _still(geometry: Geometry, rope: RopeSpec, offset: Tensor) -> Tensor:
    """`still_channels` for every KV head, as the offset has them."""
    return still_channels(geometry, rope)[:, None].expand_as(offset)


def _within(group: ChannelGroup, other: ChannelGroup) -> bool:
    """True where all that `group` mixes belongs to `other`."""
    if group.rest or other.rest:
        return group.rest == other.rest
    return other.first <= group.first <= group.last <= other.last and (other.still or not group.still)
