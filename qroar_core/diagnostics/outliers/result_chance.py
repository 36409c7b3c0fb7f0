"""How far the largest of many reaches by chance: nulls of maxima over layers, heads and channels.

The largest of many numbers lies above the typical one even where all are alike, and the more there are the further. So
a maximum is held against the same maximum, over as many layers, heads and channels, of numbers that are alike. All of
these are distribution functions whose median and central 95 % are found by bisection; nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from qroar_core.statistics.digits import ranged

NORMAL = NormalDist()
TAIL = 0.025  # of either side that a range leaves out
STEPS = 60  # of a bisection
NODES = 64  # that a head's median is averaged over
# of |w|, w normal: standard deviation over mean, and skewness
ROW_SPREAD = math.sqrt(math.pi / 2 - 1)
ROW_SKEW = math.sqrt(2) * (4 - math.pi) / (math.pi - 2) ** 1.5


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a maximum lies by chance: its median, and the ends of its central 95 %."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return ranged(self.median, self.low, self.high)


def _reach(log_below: Callable[[float], float], low: float, high: float) -> Reach:
    """From the log of a maximum's distribution function, all of which lies between `low` and `high`."""

    def quantile(p: float) -> float:
        a, b, wanted = low, high, math.log(p)
        for _ in range(STEPS):
            middle = (a + b) / 2
            a, b = (middle, b) if log_below(middle) < wanted else (a, middle)
        return b

    return Reach(quantile(0.5), quantile(TAIL), quantile(1 - TAIL))


def _above(z: float) -> float:
    """Share of a normal distribution above z, exact far out."""
    return math.erfc(z / math.sqrt(2)) / 2


def peak_of_normal(values: int) -> float:
    """Median of the largest |z| of this many normal values of RMS 1."""
    return NORMAL.inv_cdf(1 + math.expm1(math.log(0.5) / values) / 2)


def largest_normal(rms: Iterable[float], values: int) -> Reach | None:
    """The largest |x| over all heads, were each head's values normal with its RMS; None without any.

    Args:
        rms: of every head. values: of each head.
    """
    sizes = [size for size in rms if size > 0]
    if not sizes:
        return None

    def log_below(x: float) -> float:
        return math.fsum(values * math.log1p(-min(2 * _above(x / size), 1 - 1e-15)) for size in sizes)

    return _reach(log_below, 0.0, max(sizes) * (2 * peak_of_normal(values * len(sizes)) + 4))


def largest_even(spreads: Iterable[float], each: int) -> Reach | None:
    """The largest over all layers of numbers around 1, normal with the layer's standard deviation; None without any.

    Args:
        spreads: standard deviation of every layer. each: numbers of a layer.
    """
    sizes = [size for size in spreads if size > 0]
    if not sizes:
        return None

    def log_below(x: float) -> float:
        return math.fsum(each * math.log1p(-min(_above((x - 1) / size), 1 - 1e-15)) for size in sizes)

    return _reach(log_below, 1 - 9 * max(sizes), 1 + 9 * max(sizes))


def largest_row(heads: int, channels: int, inputs: int) -> Reach:
    """The largest row of a head over its median row, largest over heads, were a head's weights alike and normal.

    A row's size, its mean |w|, is then normal up to its skewness (Cornish-Fisher). The median of a head's rows is not
    fixed: given it, the rows above are drawn independently from what lies above it.

    Args:
        heads: of all layers that the maximum is over. channels: rows of a head. inputs: weights of a row.
    """
    spread, skew = ROW_SPREAD / math.sqrt(inputs), ROW_SKEW / math.sqrt(inputs)

    def size(z: float) -> float:
        return 1 + spread * (z + skew * (z * z - 1) / 6)

    def place(row: float) -> float:
        """Inverse of `size`."""
        y = (row - 1) / spread + skew / 6
        return 2 * y / (1 + math.sqrt(max(1 + 2 * skew * y / 3, 0.0)))

    off = 0.5 / math.sqrt(channels + 2)  # standard deviation of the share below the median of `channels` numbers
    shares = [0.5 + off * NORMAL.inv_cdf((i + 0.5) / NODES) for i in range(NODES)]
    medians = [min(max(share, 1e-6), 1 - 1e-6) for share in shares]

    def log_below(ratio: float) -> float:
        short = 0.0  # share of heads whose largest row reaches further
        for share in medians:
            z = place(ratio * size(NORMAL.inv_cdf(share)))
            beyond = min(_above(z) / (1 - share), 1 - 1e-15)
            short -= math.expm1(channels / 2 * math.log1p(-beyond)) / NODES
        return heads * math.log1p(-min(short, 1 - 1e-15))

    return _reach(log_below, 1.0, 1 + 20 * spread + 60 * spread * skew)


def times_median(row: Sequence[float | None]) -> tuple[float, int]:
    """The largest of a head's rows over the median one, and its channel."""
    known = sorted(v or 0.0 for v in row)
    top = max(range(len(row)), key=lambda c: row[c] or 0.0)
    half = len(known) // 2
    middle = known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2
    return ((row[top] or 0.0) / middle if middle else 0.0), top
