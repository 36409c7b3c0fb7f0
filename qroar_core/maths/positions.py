"""Where along a context a statistic belongs: equal position bins and log-spaced samples.

Every diagnostic streams over chunks of one long context of known length L, so a position bin is a
plain index range and a chunk meets only a few of them: `segments` cuts the chunk, and the caller reduces
each slice with one vectorised call. No index tensor per token, nothing that grows with L.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.maths.meters import onto


@dataclass(frozen=True, slots=True)
class PositionBins:
    """`count` bins over positions 0..length-1; bin p holds ceil(p L / P) <= position < ceil((p+1) L / P).

    Args:
        length: L, tokens, >= 1.
        count: P, >= 1; more bins than tokens leave some empty.
    Raises:
        ValueError: length or count under 1.
    """

    length: int
    count: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.count < 1:
            raise ValueError(f"need length >= 1 and count >= 1, got {self.length}, {self.count}")

    def edges(self) -> list[int]:
        """First position of each bin, then L: count + 1 integers, tokens."""
        return [-(-p * self.length // self.count) for p in range(self.count + 1)]

    def of(self, position: int) -> int:
        """Bin of one position; positions past L count into the last bin."""
        return min(position * self.count // self.length, self.count - 1)

    def inside(self, length: int) -> int:
        """How many bins hold nothing but positions under `length`: bins 0 .. n - 1, whose last one ends by there."""
        return min(length * self.count // self.length, self.count)

    def segments(self, start: int, tokens: int) -> list[tuple[int, slice]]:
        """Cut a chunk of `tokens` positions from `start` into (bin, slice of the chunk)."""
        out, first = [], start
        while first < start + tokens:
            p = self.of(first)
            # the last bin is open-ended, so a stream longer than L still counts somewhere
            end = start + tokens if p == self.count - 1 else -(-(p + 1) * self.length // self.count)
            out.append((p, slice(first - start, min(end, start + tokens) - start)))
            first = end
        return out


def dealt(bins: PositionBins, start: int, tokens: int, seed: int, device: torch.device) -> Tensor:
    """A bin drawn at random for each of `tokens` positions from `start`, int64 (tokens,): the null of a curve by bin.

    Every run of `count` positions gives each bin one of them, in an order that a hash of position and seed draws: bins
    keep their sizes up to one token, and a position's bin is the same whatever the chunks and the device.
    """
    first = start // bins.count
    runs = (start + tokens - 1) // bins.count - first + 1
    position = torch.arange(first * bins.count, (first + runs) * bins.count, device=device)
    order = _hashed(position, seed).view(runs, bins.count).argsort(dim=1, stable=True)
    return order.flatten()[start - first * bins.count :][:tokens]


def _hashed(x: Tensor, seed: int) -> Tensor:
    """32 bits drawn by every x of 0 .. 2^31 - 1; int64, and no product passes 2^63. The same on every device."""
    x = (x ^ ((seed * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF)) & 0xFFFFFFFF
    for _ in range(3):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return x ^ (x >> 16)


@dataclass(slots=True, eq=False)
class Sampled:
    """Ascending positions, tokens, int64 (n,) on the CPU: which of them a chunk holds is known without a device."""

    positions: Tensor
    listed: list[int] = field(init=False)
    there: dict[torch.device, Tensor] = field(default_factory=dict)  # copies, one a device

    def __post_init__(self) -> None:
        self.listed = self.positions.tolist()

    def inside(self, start: int, stop: int) -> slice:
        """Which of them lie in start .. stop - 1."""
        return slice(bisect_left(self.listed, start), bisect_left(self.listed, stop))

    def index(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Those in start .. stop - 1 counted from start, on `device`."""
        if device not in self.there:
            self.there[device] = onto(self.positions, device)
        return self.there[device][self.inside(start, stop)] - start


def log_spaced(last: int, count: int) -> Tensor:
    """Up to `count` distinct integers from 1 to `last`, evenly spaced in logarithm, both ends included.

    Args:
        last: largest value, >= 1 (a position or a distance, tokens).
        count: how many at most, >= 1; small values that round together are merged.
    Returns:
        int64, ascending, (<= count,).
    Raises:
        ValueError: last or count under 1.
    """
    if last < 1 or count < 1:
        raise ValueError(f"need last >= 1 and count >= 1, got {last}, {count}")
    exponents = torch.linspace(0 if count > 1 else math.log(last), math.log(last), count, dtype=torch.float64)
    return exponents.exp().round().long().clamp_(1, last).unique()
