"""Rank correlation with an interval: does one number tell beforehand what another will be?

Spearman's, because a diagnostic is asked for the order of the bands and not for the nats. Few points have a wide
interval, and it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIELLER = 1.06  # variance of Fisher's z of Spearman's rho, times n - 3
LEAST = 4  # points an interval needs
DRAWS = 500  # of the bootstrap

Numbers = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rho over `points` points with its confidence interval."""

    rho: float
    low: float
    high: float
    points: int


def spearman(x: Numbers, y: Numbers, confidence: float = 0.95) -> Correlation | None:
    """Spearman's rho of paired numbers; pairs with a None are left out.

    The interval is tanh(atanh(rho) -+ z sqrt(1.06 / (n - 3))). A perfect order is given the interval of the order
    next to it (two neighbours swapped), which a few points could as well have shown.

    Returns:
        None under four points, or where one side is the same everywhere.
    Source: Fieller, Hartley and Pearson, Biometrika 44 (1957).
    """
    from scipy import stats  # takes half a second to import: not at every server's start

    a, b = _paired(x, y)
    n = len(a)
    if n < LEAST or _flat(a) or _flat(b):
        return None
    rho = float(stats.spearmanr(a, b).statistic)
    most = 1 - 12 / (n * (n * n - 1))
    z = math.atanh(max(-most, min(most, rho)))
    reach = float(stats.norm.ppf(0.5 + confidence / 2)) * math.sqrt(FIELLER / (n - 3))
    return Correlation(rho, min(rho, math.tanh(z - reach)), max(rho, math.tanh(z + reach)), n)


def spearman_of_grid(
    x: Sequence[Numbers], y: Sequence[Numbers], confidence: float = 0.95, seed: int = 0
) -> Correlation | None:
    """Spearman's rho over the cells of two grids [row][column]; the interval by bootstrap over rows and columns.

    Cells of a row, or of a column, are alike and no independent points: whole rows and whole columns are drawn
    again, with replacement, both at once. Cells with a None are left out.

    Returns:
        None under four rows or columns, or where one side is the same everywhere.
    """
    a, b = (np.array([[np.nan if v is None else v for v in row] for row in grid], dtype=float) for grid in (x, y))
    if min(a.shape, default=0) < LEAST:
        return None
    whole = _rho(a.ravel(), b.ravel())
    if whole is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        rows, columns = (rng.integers(0, n, n) for n in a.shape)
        again = _rho(a[np.ix_(rows, columns)].ravel(), b[np.ix_(rows, columns)].ravel())
        if again is not None:
            drawn.append(again)
    low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Correlation(whole, float(low), float(high), int((~np.isnan(a) & ~np.isnan(b)).sum()))


def _rho(a: np.ndarray, b: np.ndarray) -> float | None:
    from scipy import stats  # takes half a second to import: not at every server's start

    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[known], b[known]
    if len(a) < LEAST or _flat(a) or _flat(b):
        return None
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def _paired(x: Numbers, y: Numbers) -> tuple[list[float], list[float]]:
    both = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    return [a for a, _ in both], [b for _, b in both]


def _flat(values: Sequence[float] | np.ndarray) -> bool:
    return bool(np.ptp(values) == 0)
