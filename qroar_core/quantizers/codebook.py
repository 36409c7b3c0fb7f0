"""Levels that are a short table of numbers, unevenly spaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def table_like(values: Sequence[float], like: Tensor) -> Tensor:
    """Levels in the dtype of `like`, and where it is."""
    import torch

    sent = like.device.type != "mps"  # without waiting for the device, as maths.meters.onto does
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=sent)


def nearest_level(y: Tensor, levels: Tensor) -> Tensor:
    """The level next to each number, in place; the higher one of a tie.

    Args:
        y: any shape.
        levels: ascending, (count,), of y's dtype and device.
    """
    import torch

    upper = torch.bucketize(y, levels).clamp_(1, levels.numel() - 1)  # levels[upper - 1] < y <= levels[upper]
    below, above = levels[upper - 1], levels[upper]
    return y.copy_(torch.where(y - below < above - y, below, above))


def level_spacing(y: Tensor, levels: Tensor) -> Tensor:
    """Distance between the two levels around each number; of the outermost two beyond them."""
    import torch

    upper = torch.bucketize(y.contiguous(), levels).clamp_(1, levels.numel() - 1)
    return levels[upper] - levels[upper - 1]
