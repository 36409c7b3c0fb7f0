"""A point of the search: log2 g, then the angles of pairs, the matrices of groups, and K's offset, in one tensor.

Optimisers move one tensor; whoever applies it wants the quantities apart, each in its own unit. Zero is identity.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from qroar_core.maths.channel_groups import ChannelGroup


class TransformParts(NamedTuple):
    """What a point holds."""

    log2_g: Tensor  # (..., bands)
    angles: Tensor | None  # radians, (..., pairs); None where no pair is turned
    matrices: tuple[Tensor, ...] = ()  # of each group of channels, (..., size, size); only where there are angles
    offset: Tensor | None = None  # what is taken off k before all others, in the units of W_K's bias, (..., head_dim)

    @classmethod
    def of(cls, point: Tensor, pairs: int, groups: tuple[ChannelGroup, ...] = (), channels: int = 0) -> TransformParts:
        """From a point (..., bands [+ pairs [+ numbers of the groups]] [+ channels]).

        Bands never outnumber pairs, so that the width alone tells whether there is more: nothing is read from the
        device.

        Args:
            channels: of a head, where a point with more than bands ends with an offset.
        """
        offset = None
        if channels and point.shape[-1] > pairs:
            point, offset = point[..., :-channels], point[..., -channels:]
        if point.shape[-1] <= pairs:
            return cls(point, None, (), offset)
        matrices: list[Tensor] = []
        for group in reversed(groups):
            point, numbers = point[..., : -group.numbers], point[..., -group.numbers :]
            matrices.insert(0, group.matrix(numbers))
        return cls(point[..., :-pairs], point[..., -pairs:], tuple(matrices), offset)

    def point(self, groups: tuple[ChannelGroup, ...] = ()) -> Tensor:
        """All in one tensor, (..., bands [+ pairs [+ numbers of the groups]] [+ head_dim])."""
        numbers = [group.numbers_of(matrix) for group, matrix in zip(groups, self.matrices, strict=True)]
        parts = [self.log2_g, self.angles, *numbers, self.offset]
        return torch.cat([part for part in parts if part is not None], dim=-1)
