"""Paired intervals over windows: is a difference more than the spread between texts?

Differences are taken window by window (same tokens under both conditions), so what a window is hard
for cancels. The interval is Student's t over windows, which stays honest at the small window counts
a CPU affords; a window is the unit because tokens inside one are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit  # Student's t; scipy.stats takes half a second to import

FEWEST_DOCUMENTS = 3  # an interval over fewer says nothing
NO_GAIN = "no significant gain: keep identity"  # said wherever an interval includes zero
DIGITS = 4  # of nats, wherever they are shown


def shows_above_zero(nats: float) -> bool:
    """Is a number of nats above zero as it is shown? One that reads +0.0000 recovers nothing that matters."""
    return round(nats, DIGITS) > 0


def shows_apart_from_zero(low: float, high: float) -> bool:
    """Does zero lie outside an interval of nats, in the digits that are shown?"""
    return shows_above_zero(low) or shows_above_zero(-high)


class IntervalOfNats:
    """Where an interval lies: what every kind of result that has `low` and `high` in nats says of them."""

    __slots__ = ()
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        """Of nats: the whole interval lies above zero, in the digits that are shown."""
        return shows_above_zero(self.low)

    @property
    def below_zero(self) -> bool:
        """Of nats: the whole interval lies below zero, in the digits that are shown."""
        return shows_above_zero(-self.high)

    @property
    def excludes_zero(self) -> bool:
        """Of nats: zero lies outside the interval, in the digits that are shown."""
        return shows_apart_from_zero(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Interval(IntervalOfNats):
    """Mean of a sample with its confidence interval and standard error."""

    mean: float
    low: float
    high: float
    se: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean; one value alone has an infinite interval."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, -math.inf, math.inf, math.inf)
    se = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    reach = float(stdtrit(n - 1, 0.5 + confidence / 2)) * se
    return Interval(mean, mean - reach, mean + reach, se)


def ends_of_kl(mean: float, se: float | None, windows: int) -> tuple[float | None, float | None]:
    """Student's t interval of a mean KL over windows, 95 %, which is not below 0; None where its error is not known."""
    if se is None or windows < 2:
        return None, None
    reach = float(stdtrit(windows - 1, 0.975)) * se
    return max(0.0, mean - reach), mean + reach


def paired_interval(before: Sequence[float], after: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of mean(before - after), paired by position; positive means `after` is lower.

    Raises:
        ValueError: samples of different lengths.
    """
    if len(before) != len(after):
        raise ValueError(f"paired samples differ in length: {len(before)} and {len(after)}")
    return mean_interval([a - b for a, b in zip(before, after, strict=True)], confidence)


def clustered_interval(values: Sequence[float], clusters: Sequence[str], confidence: float = 0.95) -> Interval | None:
    """Student's t interval of the mean of the cluster means; None with fewer than three clusters.

    Windows of one document resemble each other, and an interval over windows is then too narrow. Here a document
    counts once, however many windows it has, so the mean may differ a little from that over windows.

    Args:
        values: one a window. clusters: the document of each.
    Raises:
        ValueError: not one cluster a value.
    """
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values in {len(clusters)} clusters")
    of: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        of.setdefault(cluster, []).append(value)
    if len(of) < FEWEST_DOCUMENTS:
        return None
    return mean_interval([math.fsum(mine) / len(mine) for mine in of.values()], confidence)


def ratio_interval(parts: Sequence[float], wholes: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Interval of mean(parts) / mean(wholes), paired by position; None where no bounded one exists.

    Fieller's (1954): all shares r for which the mean of part - r * whole may be zero by Student's t. Where the mean of
    the wholes may itself be zero, every share may be, and with a single pair nothing is known.

    Raises:
        ValueError: samples of different lengths.
    """
    if len(parts) != len(wholes):
        raise ValueError(f"paired samples differ in length: {len(parts)} and {len(wholes)}")
    n = len(parts)
    if n < 2:
        return None
    part, whole = math.fsum(parts) / n, math.fsum(wholes) / n
    scale = float(stdtrit(n - 1, 0.5 + confidence / 2)) ** 2 / (n - 1) / n

    def spread(a: Sequence[float], b: Sequence[float], mean_a: float, mean_b: float) -> float:
        return scale * math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))

    square = whole**2 - spread(wholes, wholes, whole, whole)
    if square <= 0:
        return None
    middle = part * whole - spread(parts, wholes, part, whole)
    least = part**2 - spread(parts, parts, part, part)
    reach = math.sqrt(max(0.0, middle**2 - square * least))
    share = part / whole
    residuals = mean_interval([p - share * w for p, w in zip(parts, wholes, strict=True)], confidence)
    return Interval(share, (middle - reach) / square, (middle + reach) / square, residuals.se / abs(whole))
