"""Magnitudes of channels by position, streamed over one long context.

`ChannelMeter` reduces a stream of q, k or their pre-RoPE projections to maps of channel x position bin;
dilation reads the same maps. Every head is counted by itself, also query heads that read one KV head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.diagnostics.outliers.result_chance import peak_of_normal
from qroar_core.maths.meters import CPU, Meter, onto
from qroar_core.maths.positions import PositionBins


@dataclass(frozen=True, slots=True, eq=False)
class ChannelMaps:
    """Magnitudes by head, channel and position bin; CPU float64, (heads, head_dim, bins); 0 in empty bins.

    count: tokens in each bin, (bins,). dealt: mean |x| over each of two groups of positions dealt at random, (2, draws,
    heads, head_dim); None where none were dealt.
    """

    mean_abs: Tensor
    rms: Tensor
    maximum: Tensor
    count: Tensor
    bins: PositionBins
    dealt: Tensor | None = None

    def mean_over(self, bins: slice) -> Tensor:
        """Mean |x| of every channel over the tokens of a range of bins, (heads, head_dim).

        Raises:
            ValueError: a range without tokens.
        """
        weight = self.count[bins].double()
        if not weight.sum():
            raise ValueError(f"the bins {bins} hold no tokens")
        return (self.mean_abs[..., bins] * weight).sum(-1) / weight.sum()

    def normal_peak(self) -> Tensor:
        """The largest |x| of each head, were its values normal and of the same RMS: median of draws, (heads,)."""
        weight = self.count.double()
        rms = ((self.rms.square() * weight).sum((1, 2)) / weight.sum() / self.rms.shape[1]).sqrt()
        return rms * peak_of_normal(self.values)

    @property
    def values(self) -> int:
        """How many values of each head were seen."""
        return int(self.count.sum()) * self.rms.shape[1]


@dataclass(slots=True, eq=False)
class Deal:
    """The positions of two ranges of bins, dealt at random to two groups of the same two sizes.

    What differs between these groups differs by chance: position does not enter. One byte a position and draw.

    Args:
        bins: of the whole context. early, late: ranges of bins that do not overlap.
        draws: how often, >= 1. seed: of the first draw.
    """

    bins: PositionBins
    early: slice
    late: slice
    draws: int
    seed: int
    first: Tensor = field(init=False)  # whether a position is in the first group, bool (draws, length)

    def __post_init__(self) -> None:
        edges = self.bins.edges()
        near, far = (torch.arange(edges[at.start], edges[at.stop]) for at in (self.early, self.late))
        both = torch.cat((near, far))
        self.first = torch.zeros(self.draws, self.bins.length, dtype=torch.bool)
        for draw in range(self.draws):
            order = torch.randperm(len(both), generator=torch.Generator().manual_seed(self.seed + draw))
            self.first[draw, both[order[: len(near)]]] = True

    def of(self, start: int, tokens: int, like: Tensor) -> Tensor:
        """1 for the first group and 0 for the rest, (draws, tokens), where `like` is."""
        return onto(self.first[:, start : start + tokens], like.device, like.dtype)


class ChannelMeter(Meter):
    """Streams ChannelMaps of one tensor of one layer."""

    def __init__(self, heads: int, head_dim: int, bins: PositionBins, deal: Deal | None = None) -> None:
        self.bins, self.deal = bins, deal
        self.sum_abs, self.sum_square, self.maximum = (
            torch.zeros(bins.count, heads, head_dim, dtype=torch.float64) for _ in range(3)
        )
        self.count = torch.zeros(bins.count, dtype=torch.int64)
        self.sum_dealt = torch.zeros(deal.draws if deal else 0, heads, head_dim, dtype=torch.float64)

    def update(self, start: int, x: Tensor) -> None:
        """Add x (heads, tokens, head_dim) whose first token sits at position `start`."""
        self.to_device(x.device)
        magnitude = x.detach().abs().float()
        if self.deal is not None:
            first = self.deal.of(start, x.shape[1], magnitude)
            self.sum_dealt += torch.einsum("nt,htd->nhd", first, magnitude).to(self.sum_dealt)
        for p, cut in self.bins.segments(start, x.shape[1]):
            part = magnitude[:, cut]
            self.sum_abs[p] += part.sum(1).to(self.sum_abs)
            self.sum_square[p] += part.square().sum(1).to(self.sum_square)
            self.maximum[p] = torch.maximum(self.maximum[p], part.amax(1).to(self.maximum))
            self.count[p] += part.shape[1]

    def result(self) -> ChannelMaps:
        """Maps so far."""
        self.to_device(CPU)
        n = self.count.clamp(min=1).double()[:, None, None]
        mean, rms = self.sum_abs / n, (self.sum_square / n).sqrt()
        mean, rms, maximum = (m.permute(1, 2, 0).clone() for m in (mean, rms, self.maximum))
        return ChannelMaps(mean, rms, maximum, self.count.clone(), self.bins, self._dealt())

    def _dealt(self) -> Tensor | None:
        if self.deal is None:
            return None
        near, far = ((self.sum_abs[at].sum(0), self.count[at].sum()) for at in (self.deal.early, self.deal.late))
        second = near[0] + far[0] - self.sum_dealt
        return torch.stack((self.sum_dealt / near[1], second / far[1]))
