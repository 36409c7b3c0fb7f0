"""The Pareto front of loss and memory, exactly, and which of its steps the measurement supports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from qroar_core.statistics.intervals import Interval
from qroar_core.tradeoffs.point import NO_REMEDY, Point, difference


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A point of the front, and whether it is better than the cheaper one before it that stands.

    Args:
        over: the last cheaper point whose own step is significant; None for the cheapest of all.
        gain: what it loses less than that one, with its interval; None for the cheapest.
        paired: whether that interval is paired over windows.
        significant: the whole interval lies above zero. The cheapest point stands by itself.
    """

    point: Point
    over: Point | None = None
    gain: Interval | None = None
    paired: bool = False
    significant: bool = True


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other equals or beats in both bytes and loss while it beats it in one, cheapest first.

    Points alike in both are all there. Those that are not served are left out.
    """
    best: float | None = None
    found: list[Point] = []
    served = sorted((one for one in points if one.served), key=lambda one: (one.bytes_per_token, one.loss))
    for _, alike in groupby(served, key=lambda one: one.bytes_per_token):
        mine = list(alike)
        least = mine[0].loss
        if best is None or least < best:
            found += [one for one in mine if one.loss == least]
            best = least
    return found


def steps(points: Sequence[Point]) -> list[Step]:
    """The front, each point beside the last cheaper one that stands: more memory has to be worth it."""
    found: list[Step] = []
    stands: Point | None = None
    for point in pareto(points):
        if stands is None or point.bytes_per_token == stands.bytes_per_token:
            found.append(Step(point))
            stands = stands or point
            continue
        gain, paired = difference(stands, point)
        found.append(Step(point, stands, gain, paired, gain.above_zero))
        if gain.above_zero:
            stands = point
    return found


def simplest(points: Sequence[Point]) -> Point:
    """Of points that take the same memory the one to serve: without a remedy, unless another is significantly better.

    Each other, in the order given, takes the place where what it gains over the one before is significant.
    """
    ordered = sorted(points, key=lambda one: one.remedy != NO_REMEDY)
    best = ordered[0]
    for other in ordered[1:]:
        if difference(best, other)[0].above_zero:
            best = other
    return best
