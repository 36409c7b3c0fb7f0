"""Sketches of |x| over a stream: a histogram in logarithmic bins and the exact top of the tail.

`LogHistogram` costs a shift and a bincount per value and bounds the error of any quantile; `TopTail` keeps
the k largest values exactly, which is all that a ratio of extreme quantiles needs. In both,
`quantile(q, weights)` pools the leading `windows` axis under integer weights, so that a bootstrap over
windows is one call. A quantile is the inverse CDF: the smallest v with #(|x| <= v) >= q n.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qroar_core.maths.meters import CPU, Meter, onto, tally

MANTISSA_BITS = 23  # IEEE 754 binary32
EXPONENT_BIAS = 127
BLOCK_ELEMENTS = 500_000  # (resample, cell, value) triples held at once
RANK_TOLERANCE = 1e-6  # q * n is a count: forgives binary rounding such as 0.999 * 1000


def _rank(q: float, n: Tensor) -> Tensor:
    """1-based rank of the q quantile among n values, from the smallest; float64."""
    return torch.minimum((q * n.double() - RANK_TOLERANCE).ceil().clamp(min=1), n.double())


class LogHistogram(Meter):
    """Counts of |x| in bins of equal width inside each octave: 2^sub_bits bins per factor of two.

    The bin is read off the float's own bits: (bits >> (23 - sub_bits)) - offset. A quantile returned is off
    by at most `relative_bound` = 2^-(sub_bits+1) of its value. |x| < 2^low is counted as 0 (the underflow
    bin: absolute error under 2^low); |x| >= 2^high, inf and NaN fall in the top bin, whose value is inf.

    Args:
        shape: cells, for example (windows, n_kv_heads, bands).
        sub_bits: 1..10.
        low, high: exponents of the covered range, 2^low..2^high.
        dtype: of the counts; int32 halves the memory of streams that stay under 2^31 values a bin.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        sub_bits: int = 5,
        low: int = -14,
        high: int = 16,
        dtype: torch.dtype = torch.int64,
    ) -> None:
        if not 1 <= sub_bits <= 10 or not -126 <= low < high <= 127:
            raise ValueError(f"need sub_bits in 1..10 and -126 <= low < high <= 127: {sub_bits}, {low}, {high}")
        self.shape, self.sub_bits, self.low, self.high = tuple(shape), sub_bits, low, high
        self.n_bins = ((high - low) << sub_bits) + 2
        self.counts = torch.zeros(*self.shape, self.n_bins, dtype=dtype)

    @property
    def relative_bound(self) -> float:
        """Largest relative error of a quantile inside 2^low..2^high."""
        return 2.0 ** -(self.sub_bits + 1)

    def update(self, x: Tensor, cell: Tensor) -> None:
        """Count every value of x into its cell.

        Args:
            x: any shape, float; wider types are rounded to fp32 first.
            cell: int64, broadcastable to x: flat index into `shape`; -1 drops the value.
        """
        self.to_device(x.device)
        cells = math.prod(self.shape)
        bits = x.detach().float().contiguous().view(torch.int32).bitwise_and(0x7FFFFFFF)
        offset = ((self.low + EXPONENT_BIAS) << self.sub_bits) - 1
        bins = (bits >> (MANTISSA_BITS - self.sub_bits)).sub_(offset).clamp_(0, self.n_bins - 1)
        # dropped values go to one spare cell past the end
        base = onto(torch.where(cell < 0, cells, cell), x.device, torch.int32) * self.n_bins
        flat = tally((bins + base).reshape(-1), (cells + 1) * self.n_bins)
        self.counts += flat[: cells * self.n_bins].reshape(self.counts.shape)

    def merge(self, other: LogHistogram) -> None:
        """Add the counts of a histogram with the same cells and bins."""
        mine, theirs = ((h.shape, h.sub_bits, h.low, h.high) for h in (self, other))
        if mine != theirs:
            raise ValueError(f"histograms differ: {mine} and {theirs}")
        self.counts += other.counts.to(self.counts.device)

    def values(self) -> Tensor:
        """The value a bin stands for: 2 lo hi / (lo + hi); 0 for underflow, inf on top; (n_bins,) float64."""
        step = torch.arange(self.n_bins - 1, dtype=torch.float64)
        size = 2**self.sub_bits
        edge = 2.0 ** (self.low + (step / size).floor()) * (1 + step.remainder(size) / size)
        middle = 2 * edge[:-1] * edge[1:] / (edge[:-1] + edge[1:])
        return torch.cat([torch.zeros(1).double(), middle, torch.full((1,), math.inf).double()])

    def quantile(self, q: float, weights: Tensor | None = None) -> Tensor:
        """Quantile of |x| per cell, or of the windows pooled under each row of weights.

        Args:
            q: 0..1.
            weights: (B, windows) non-negative integers in any dtype; None keeps the windows apart.
        Returns:
            (*shape) or (B, *shape[1:]), float64; NaN where nothing was counted.
        """
        self.to_device(CPU)
        below = self.counts.cumsum(-1)  # (*shape, n_bins)
        index = (below < _rank(q, below[..., -1])[..., None]).sum(-1).clamp_(max=self.n_bins - 1)
        if weights is None:
            return self.values()[index].where(below[..., -1] > 0, math.nan)
        # a pooled quantile lies between the least and the greatest of the windows' own
        used = below[..., -1] > 0
        low = index.where(used, self.n_bins).amin(0).clamp_(max=self.n_bins - 1)  # (*shape[1:])
        span = int((index.where(used, 0).amax(0) - low).amax().clamp(min=0)) + 1
        at = (low[..., None] + torch.arange(span)).clamp_(max=self.n_bins - 1)  # (*shape[1:], span)
        part = below.gather(-1, at.expand(self.shape[0], *at.shape)).double()
        weights = weights.double()
        pooled = torch.tensordot(weights, part, 1)  # (B, *shape[1:], span)
        total = torch.tensordot(weights, below[..., -1].double(), 1)
        picked = low + (pooled < _rank(q, total)[..., None]).sum(-1).clamp_(max=span - 1)
        return self.values()[picked].where(total > 0, math.nan)


class TopTail(Meter):
    """The k largest |x| of a stream per cell, exact; enough for every quantile with (1-q) n < k.

    Args:
        shape: cells, for example (windows, n_kv_heads, bands).
        keep: k. `kept_for` computes it for a tail probability.
    """

    def __init__(self, shape: tuple[int, ...], keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep must be >= 1, got {keep}")
        self.shape, self.keep = tuple(shape), keep
        self.top = torch.full((*self.shape, keep), -1.0)  # -1: empty slot, below every magnitude
        self.seen = torch.zeros(self.shape, dtype=torch.int64)

    @staticmethod
    def kept_for(eps: float, values_per_window: int, windows: int) -> int:
        """k that makes the 1-eps quantile of all windows pooled exact under any bootstrap weights."""
        return math.floor(eps * values_per_window * windows + RANK_TOLERANCE) + 1

    def update(self, magnitude: Tensor, count: Tensor, window: int | None = None) -> None:
        """Merge |x| (*cells, n) into the cells of one window, or of all of them.

        Args:
            magnitude: >= 0, or -1 for padding; (*shape, n), or (*shape[1:], n) with `window`.
            count: values that are not padding, int64, broadcastable to the cells.
        """
        self.to_device(magnitude.device)
        at = ... if window is None else window
        fresh = magnitude.detach().float().topk(min(self.keep, magnitude.shape[-1]), -1).values
        self.top[at] = torch.cat([self.top[at], fresh], -1).topk(self.keep, -1).values
        self.seen[at] += count.to(self.seen.device)

    def beside(self, other: TopTail) -> TopTail:
        """The windows of both, those of `other` behind this one's own."""
        self.to_device(CPU)
        other.to_device(CPU)
        both = TopTail((self.shape[0] + other.shape[0], *self.shape[1:]), max(self.keep, other.keep))
        for at, side in ((slice(0, self.shape[0]), self), (slice(self.shape[0], None), other)):
            both.top[at, ..., : side.keep], both.seen[at] = side.top, side.seen
        return both

    def reaches(self, q: float) -> bool:
        """True when the values kept decide the q quantile of all windows pooled, in every cell."""
        self.to_device(CPU)
        total = self.seen.sum(0)
        from_top = total - _rank(q, total) + 1
        return bool((self.seen <= self.keep).all()) or bool((from_top <= self.keep).all())

    def quantile(self, q: float, weights: Tensor | None = None) -> Tensor:
        """As `LogHistogram.quantile`, exact. Raises ValueError where the tail kept is too short for q."""
        self.to_device(CPU)
        pools = torch.eye(self.shape[0]) if weights is None else weights.cpu().float()
        total = torch.tensordot(pools.double(), self.seen.double(), 1)  # (B, *cells)
        from_top = total - _rank(q, total) + 1  # rank of the answer counted from the largest
        exhausted = bool((self.seen <= self.keep).all())  # everything was kept
        if not exhausted and bool((from_top > self.keep).any()):
            need = int(from_top.max())
            raise ValueError(f"the {q} quantile needs {need} values per window, only {self.keep} are kept")
        pooled, order = self.top.movedim(0, -2).flatten(-2).sort(-1, descending=True)  # (*cells, W k)
        window = order // self.keep
        window = window.where(pooled >= 0, self.shape[0])  # empty slots weigh nothing
        padded = torch.cat([pools, torch.zeros(len(pools), 1)], 1)
        out = []
        block = max(1, BLOCK_ELEMENTS // pooled.numel())
        for rows, rank in zip(padded.split(block), from_top.split(block), strict=True):
            # how many values are at least as large, with multiplicity: (block, *cells, W k)
            above = rows[:, window].cumsum(-1)
            place = (above < rank.float()[..., None]).sum(-1).clamp_(max=pooled.shape[-1] - 1)
            out.append(pooled.expand(len(rows), *pooled.shape).gather(-1, place[..., None])[..., 0])
        return torch.cat(out).double().where(total > 0, math.nan)
