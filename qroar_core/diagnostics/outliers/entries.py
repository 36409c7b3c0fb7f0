"""What single outlier entries cost a quantizer: errors booked by magnitude, so that a limit can be applied at the end.

A rule's limit needs the magnitudes of all tokens, and which errors count needs the limit: one pass knows both when it
keeps, for every head and band, a histogram of log2 |x| and the squared error of each quantizer by bin of it. Limits are
moved to the nearest edge of a bin; edges lie 2^(1/32) apart. So a limit is off by one bin at most for where in its bin
it lies and by half of one for the edge, 3.3 % together (a MAD's too, unless nearly all magnitudes lie within one bin).
Where magnitudes are sparse, a quantile between two that are further apart is known to lie between them, no better. The
shares above the edge are exact. Nothing depends on the order or size of chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qroar_core.diagnostics.outliers.rules import MAD_TO_SIGMA
from qroar_core.maths.meters import CPU, Meter, accumulator_device, tally

PER_OCTAVE = 32  # bins of a doubling
LOWEST = -16  # log2 of the smallest magnitude told apart; smaller ones, 0 too, share the first bin
BINS = 32 * PER_OCTAVE  # up to 2^16; larger ones share the last
EDGES = 2.0 ** (LOWEST + np.arange(BINS + 1) / PER_OCTAVE)  # lower edge of every bin but the first, which starts at 0


class EntryMeter(Meter):
    """Entries of x and their squared rounding errors, by head, band and magnitude, for several quantizers.

    Args:
        n_kv_heads: heads of x.
        band_of_channel: int64 (head_dim,), -1 in no band; those come last, as one more.
        variants: names of the quantizers, for example ("int8", "int4").
    """

    def __init__(self, n_kv_heads: int, band_of_channel: Tensor, variants: tuple[str, ...]) -> None:
        self.variants = variants
        self.bands = int(band_of_channel.max()) + 1
        self.row = torch.where(band_of_channel >= 0, band_of_channel, self.bands).int()
        shape = (n_kv_heads, self.bands + 1, BINS)
        self.entries = torch.zeros(shape, dtype=torch.float64)
        self.rounded = torch.zeros(shape, dtype=torch.float64)  # those whose errors are known
        self.error = torch.zeros(len(variants), *shape, dtype=torch.float64)
        self.by_channel = torch.zeros(len(variants), n_kv_heads, len(band_of_channel), dtype=torch.float64)
        self.uneven = torch.zeros(len(variants), dtype=torch.float64)  # sum over vectors of their errors' variance

    def update(self, x: Tensor, quantized: Mapping[str, Tensor]) -> None:
        """Add x (n_kv_heads, tokens, head_dim) and its quantized versions, keyed by variant."""
        self.see(x)
        self.book(x, quantized)

    def see(self, x: Tensor) -> None:
        """Count entries towards the limits alone."""
        self.to_device(x.device)
        self.entries += self._counts(self._cell(x.detach().float()))

    def book(self, x: Tensor, quantized: Mapping[str, Tensor]) -> None:
        """Book what quantizers make of entries that `see` is shown as well."""
        self.to_device(x.device)
        x = x.detach().float()
        cell, cells = self._cell(x), self.entries.numel()
        self.rounded += self._counts(cell)
        wide = torch.float32 if accumulator_device(x.device) != x.device else torch.float64
        for name in quantized:
            at = self.variants.index(name)
            error = (quantized[name].detach().float() - x).square_().to(wide)
            self.error[at] += tally(cell, cells, error.flatten()).to(self.error).view_as(self.entries)
            self.by_channel[at] += error.sum(1).to(self.by_channel)
            self.uneven[at] += error.var(-1, correction=0).sum().to(self.uneven)

    def _cell(self, x: Tensor) -> Tensor:
        """Head, band and bin of every entry in one number."""
        bins = ((x.abs().log2() - LOWEST) * PER_OCTAVE).floor().clamp(0, BINS - 1).int()
        head = torch.arange(len(x), device=x.device, dtype=torch.int32)[:, None, None]
        return ((head * (self.bands + 1) + self.row) * BINS + bins).flatten()

    def _counts(self, cell: Tensor) -> Tensor:
        return tally(cell, self.entries.numel()).to(self.entries).view_as(self.entries)

    def result(self) -> Entries:
        """What was seen so far."""
        self.to_device(CPU)
        entries, rounded, error = (x.numpy() for x in (self.entries, self.rounded, self.error))
        return Entries(self.variants, entries, rounded, error, self.by_channel.clone(), self.uneven.clone())


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Counts and squared errors by head, band (the last: channels in no band) and bin; float64.

    entries: (heads, bands + 1, BINS), all of the context. rounded: the same of those whose errors are known. error:
    (variants, heads, bands + 1, BINS). by_channel: (variants, heads, head_dim). uneven: (variants,), sum over
    vectors of the variance of squared errors over their channels.
    """

    variants: tuple[str, ...]
    entries: np.ndarray
    rounded: np.ndarray
    error: np.ndarray
    by_channel: Tensor
    uneven: Tensor

    def spread_by_chance(self, variant: int) -> float:
        """Standard deviation of a channel's error over an even share, were every vector's dealt to its channels."""
        even = float(self.by_channel[variant].sum()) / self.by_channel.shape[-1]
        return float(self.uneven[variant]) ** 0.5 / even if even else math.nan

    def limits(self, rule: str, parameter: float) -> list[int]:
        """For every head the first bin of outliers: the edge nearest to what the rule says of all its entries."""
        at = []
        for counts in self.entries.sum(1):
            limit = limit_of(counts, rule, parameter)
            nearest = np.log2(max(limit, EDGES[0])) - LOWEST
            at.append(int(np.clip(np.round(nearest * PER_OCTAVE), 1, BINS)))
        return at

    def shares(self, limits: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Outliers' part of the squared error (variants, bands) and of the entries it is of (bands,); sums over heads.

        NaN where a band has no error at all.
        """
        above = np.arange(BINS) >= np.array(limits)[:, None, None]  # (heads, 1, BINS)
        with np.errstate(invalid="ignore"):
            error = (self.error * above).sum((1, 3)) / self.error.sum((1, 3))
            entries = (self.rounded * above).sum((0, 2)) / self.rounded.sum((0, 2))
        return error[:, :-1], entries[:-1]


def limit_of(counts: np.ndarray, rule: str, parameter: float) -> float:
    """The rule's limit, read from counts by bin (BINS,)."""
    if rule == "percentile":
        return quantile_of(counts, parameter)
    if rule == "iqr":
        low, high = quantile_of(counts, 0.25), quantile_of(counts, 0.75)
        return high + parameter * (high - low)
    median = quantile_of(counts, 0.5)
    return median + parameter / MAD_TO_SIGMA * _median_distance(counts, median)


def _median_distance(counts: np.ndarray, median: float) -> float:
    """The median of |x - median|: how far to either side of it half of all entries lie.

    Bins themselves are too coarse for it: what is near the median is a small difference of large magnitudes.
    """
    half = counts.sum() / 2
    low, high = 0.0, float(EDGES[np.flatnonzero(counts)[-1] + 1])
    for _ in range(50):
        middle = (low + high) / 2
        inside = _below(counts, median + middle) - _below(counts, median - middle)
        low, high = (low, middle) if inside >= half else (middle, high)
    return high


def _below(counts: np.ndarray, x: float) -> float:
    """How many entries lie below x, as `quantile_of` spreads them inside a bin."""
    if x <= EDGES[1]:
        return float(counts[0] * max(x, 0.0) / EDGES[1])
    at = min((math.log2(x) - LOWEST) * PER_OCTAVE, float(BINS))
    whole = min(int(at), BINS - 1)
    return float(counts[:whole].sum() + counts[whole] * (at - whole))


def quantile_of(counts: np.ndarray, p: float) -> float:
    """The p quantile of what fell into the bins, between the edges of its bin as if entries were even in log there."""
    reached = counts.cumsum()
    rank = p * (reached[-1] - 1)
    at = min(int(np.searchsorted(reached, rank, side="right")), BINS - 1)
    before = reached[at - 1] if at else 0.0
    inside = min(max((rank - before + 0.5) / counts[at], 0.0), 1.0)
    if at == 0:
        return float(EDGES[1] * inside)
    return float(EDGES[at] * 2 ** (inside / PER_OCTAVE))
