"""Where running sums are kept: beside what they are fed, so that no update waits for a device; on the CPU when read."""

from __future__ import annotations

import torch
from torch import Tensor

CPU = torch.device("cpu")


def accumulator_device(device: torch.device) -> torch.device:
    """Where float64 sums over tensors of `device` are kept: there, or on the CPU where it knows no float64 (mps)."""
    return CPU if device.type == "mps" else device


def onto(x: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """x on `device`. What comes from the host is only sent there: the device reads it in turn, nothing waits.

    The host may write to x again at once, as torch sends a copy. On mps, which reads x itself, this waits.
    """
    sent = x.device.type == "cpu" and device.type != "mps"
    return x.to(device, non_blocking=sent) if dtype is None else x.to(device, dtype, non_blocking=sent)


class Meter:
    """Something with running sums. Its tensors follow its input: a model's layers may be on several devices."""

    at = CPU  # where they are

    def to_device(self, device: torch.device) -> None:
        """Have every tensor of this meter on `device`: at each update (free once there), and `CPU` before reading."""
        if device == self.at:
            return
        for name, kept in list(vars(self).items()):
            if isinstance(kept, Tensor):
                setattr(self, name, onto(kept, accumulator_device(device) if kept.dtype == torch.float64 else device))
        self.at = device


def tally(cell: Tensor, cells: int, weight: Tensor | None = None) -> Tensor:
    """Sum of `weight` by cell, or how many there are; (cells,).

    Args:
        cell: (n,) int32 or int64, 0..cells - 1. weight: (n,).
    """
    if cell.device == CPU:
        return torch.bincount(cell, weight, minlength=cells)
    if weight is None:  # bincount would read the largest cell back first
        weight = torch.ones(1, dtype=torch.int32, device=cell.device).expand(len(cell))
    return torch.zeros(cells, dtype=weight.dtype, device=cell.device).index_add_(0, cell, weight)
