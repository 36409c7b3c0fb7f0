"""What single outlier entries cost a quantizer: errors booked by magnitude, so that a limit can be applied at the end.

A rule's limit needs the magnitudes of all tokens, and which errors count needs the limit: one pass knows both when it
keeps, for every head and band, a histogram of log2 |x| and the squared error of each quantizer by bin of it. Limits are
moved to the nearest edge of a bin; edges lie 2^(1/32) apart, so a limit is known to 2.2 %, and the shares above that
edge are exact. Nothing depends on the order or size of chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qroar_core.diagnostics.outliers.rules import MAD_TO_SIGMA
from qroar_core.maths.meters import CPU, Meter, home, tally

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
        self.error = torch.zeros(len(variants), *shape, dtype=torch.float64)
        self.by_channel = torch.zeros(len(variants), n_kv_heads, len(band_of_channel), dtype=torch.float64)

    def update(self, x: Tensor, quantized: Mapping[str, Tensor], seen: bool = False) -> None:
        """Add x (n_kv_heads, tokens, head_dim) and its quantized versions, keyed by variant.

        Args:
            seen: these entries are counted already; only errors of further variants come.
        """
        self.follow(x.device)
        x = x.detach().float()
        bins = ((x.abs().log2() - LOWEST) * PER_OCTAVE).floor().clamp(0, BINS - 1).int()
        head = torch.arange(len(x), device=x.device, dtype=torch.int32)[:, None, None]
        cell = ((head * (self.bands + 1) + self.row) * BINS + bins).flatten()
        cells = self.entries.numel()
        if not seen:
            self.entries += tally(cell, cells).to(self.entries).view_as(self.entries)
        wide = torch.float32 if home(x.device) != x.device else torch.float64
        for name in quantized:
            at = self.variants.index(name)
            error = (quantized[name].detach().float() - x).square_().to(wide)
            self.error[at] += tally(cell, cells, error.flatten()).to(self.error).view_as(self.entries)
            self.by_channel[at] += error.sum(1).to(self.by_channel)

    def result(self) -> Entries:
        """What was seen so far."""
        self.follow(CPU)
        return Entries(self.variants, self.entries.numpy(), self.error.numpy(), self.by_channel.clone())


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Counts and squared errors by head, band (the last: channels in no band) and bin; float64.

    entries: (heads, bands + 1, BINS). error: (variants, heads, bands + 1, BINS). by_channel: (variants, heads,
    head_dim).
    """

    variants: tuple[str, ...]
    entries: np.ndarray
    error: np.ndarray
    by_channel: Tensor

    def limits(self, rule: str, parameter: float) -> list[int]:
        """For every head the first bin of outliers: the edge nearest to what the rule says of all its entries."""
        at = []
        for counts in self.entries.sum(1):
            limit = limit_of(counts, rule, parameter)
            nearest = np.log2(max(limit, EDGES[0])) - LOWEST
            at.append(int(np.clip(np.round(nearest * PER_OCTAVE), 1, BINS)))
        return at

    def shares(self, limits: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Outliers' part of the squared error (variants, bands) and of the entries (bands,); sums over heads.

        NaN where a band has no error at all.
        """
        above = np.arange(BINS) >= np.array(limits)[:, None, None]  # (heads, 1, BINS)
        with np.errstate(invalid="ignore"):
            error = (self.error * above).sum((1, 3)) / self.error.sum((1, 3))
            entries = (self.entries * above).sum((0, 2)) / self.entries.sum((0, 2))
        return error[:, :-1], entries[:-1]


def limit_of(counts: np.ndarray, rule: str, parameter: float) -> float:
    """The rule's limit, read from counts by bin (BINS,)."""
    if rule == "percentile":
        return quantile_of(counts, parameter)
    if rule == "iqr":
        low, high = quantile_of(counts, 0.25), quantile_of(counts, 0.75)
        return high + parameter * (high - low)
    median = quantile_of(counts, 0.5)
    used = np.flatnonzero(counts)
    middle = np.sqrt(EDGES[used] * EDGES[used + 1])
    distance = np.abs(middle - median)
    order = np.argsort(distance, kind="stable")
    reached = np.searchsorted(counts[used][order].cumsum(), counts.sum() / 2)
    return median + parameter / MAD_TO_SIGMA * float(distance[order][min(reached, len(order) - 1)])


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
