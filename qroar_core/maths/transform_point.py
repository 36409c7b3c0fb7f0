"""A point of the search: log2 g, the angles of pairs behind it, then the matrices of groups, in one tensor.

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

    @classmethod
    def of(cls, point: Tensor, pairs: int, groups: tuple[ChannelGroup, ...] = ()) -> TransformParts:
        """From a point (..., bands [+ pairs [+ numbers of the groups]]).

        Bands never outnumber pairs, so that the width alone tells whether there is more: nothing is read from the
        device.
        """
        if point.shape[-1] <= pairs:
            return cls(point, None)
        matrices: list[Tensor] = []
        for group in reversed(groups):
            point, numbers = point[..., : -group.numbers], point[..., -group.numbers :]
            matrices.insert(0, group.matrix(numbers))
        return cls(point[..., :-pairs], point[..., -pairs:], tuple(matrices))

    def point(self, groups: tuple[ChannelGroup, ...] = ()) -> Tensor:
        """All in one tensor, (..., bands [+ pairs [+ numbers of the groups]])."""
        numbers = [group.numbers_of(matrix) for group, matrix in zip(groups, self.matrices, strict=True)]
        return torch.cat([self.log2_g, *([] if self.angles is None else [self.angles]), *numbers], dim=-1)
