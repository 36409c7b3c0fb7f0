"""A point of the search: the scales as log2 g and, where pairs are turned, their angles behind it in one tensor.

Optimisers move one tensor; whoever applies it wants the two quantities apart, each in its own unit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ScalesAndAngles(NamedTuple):
    """What a point holds."""

    log2_g: Tensor  # (..., bands)
    angles: Tensor | None  # radians, (..., pairs); None where no pair is turned

    @classmethod
    def of(cls, point: Tensor, pairs: int) -> ScalesAndAngles:
        """From a point (..., bands [+ pairs]).

        Bands never outnumber pairs, so the width alone tells: nothing is read from the device.
        """
        if point.shape[-1] <= pairs:
            return cls(point, None)
        return cls(point[..., :-pairs], point[..., -pairs:])

    @property
    def point(self) -> Tensor:
        """Both in one tensor, (..., bands [+ pairs])."""
        return self.log2_g if self.angles is None else torch.cat((self.log2_g, self.angles), dim=-1)
