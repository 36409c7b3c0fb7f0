"""The cheapest format that loses less than is allowed, and what cannot be told apart from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qroar_core.number_of import number_of
from qroar_core.specs.tradeoff import UNIT, Loss
from qroar_core.tradeoffs.front import simplest
from qroar_core.tradeoffs.point import Point, difference

NAMED = 4  # points that a sentence names; the rest are counted


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What `--max-loss` chooses among the points of one setup.

    A point loses less than is allowed where the upper end of its interval does.

    Args:
        point: the cheapest such; None where there is none.
        open_below: cheaper points, or all where there is none, whose interval reaches from below the limit over it.
        alike: the other served points whose loss does not differ significantly from the chosen one's.
        least: the point with the least loss by its estimate; None where nothing is measured.
    """

    max_loss: float
    point: Point | None
    open_below: tuple[Point, ...]
    alike: tuple[Point, ...]
    least: Point | None


def choose(points: Sequence[Point], max_loss: float) -> Choice:
    """The cheapest that loses less than `max_loss`; at equal memory the one of `simplest`."""
    served = sorted((one for one in points if one.served), key=lambda one: one.bytes_per_token)
    if not served:
        return Choice(max_loss, None, (), (), None)
    shown = [one for one in served if one.high is not None and one.high < max_loss]
    chosen = None
    if shown:
        chosen = simplest([one for one in shown if one.bytes_per_token == shown[0].bytes_per_token])
    below = math.inf if chosen is None else chosen.bytes_per_token
    sure = {id(one) for one in shown}
    unsure = [one for one in served if id(one) not in sure and one.bytes_per_token < below and _may_be(one, max_loss)]
    alike = [one for one in served if chosen is not None and one is not chosen and _alike(one, chosen)]
    return Choice(max_loss, chosen, tuple(unsure), tuple(alike), min(served, key=lambda one: one.loss))


def _may_be(one: Point, max_loss: float) -> bool:
    """May it lose less than the limit, though that is not shown?"""
    return (one.loss if one.low is None else one.low) < max_loss


def _alike(one: Point, other: Point) -> bool:
    return not difference(one, other)[0].excludes_zero


def sentences(choice: Choice, loss: Loss, length: int, batch: int, count: int, full: float | None) -> list[str]:
    """The choice in words, each a sentence without its full stop.

    Args:
        count: points that could be chosen. full: bytes a token of the unquantized cache; None: not known.
    """
    limit = f"less than {choice.max_loss:g} {UNIT[loss]}"
    if choice.least is None:
        return ["Nothing is measured yet, so nothing can be chosen"]
    found = choice.point
    if found is None:
        said = [
            f"None of {number_of(count, 'measured format')} is shown to lose {limit}: the upper end of no interval is "
            f"below. The least loss is that of {choice.least.name}, {lost(choice.least)}"
        ]
    elif not found.quantized:
        said = [f"No quantized cache is shown to lose {limit}; only the unquantized one does, which loses nothing"]
    else:
        share = f", {found.bytes_per_token / full:.0%} of the unquantized cache" if full else ""
        said = [
            f"The cheapest format that loses {limit} is {found.name}: {lost(found)}, at "
            f"{memory(found, length, batch)}{share}"
        ]
    if choice.open_below:
        cheaper = "Cheaper ones are not ruled out" if found is not None else "Not ruled out either"
        said.append(f"{cheaper}, because their intervals reach below and above the limit: {_named(choice.open_below)}")
    if choice.alike:
        said.append(f"Not distinguishable from it by this measurement: {_named(choice.alike)}")
    elif found is not None and count > 1:
        said.append("Every other one differs from it significantly")
    return said


def lost(point: Point) -> str:
    """`+0.0123 [-0.0010, +0.0256]`."""
    if point.low is None or point.high is None:
        return f"{point.loss:+.4f} (no interval is known)"
    return f"{point.loss:+.4f} [{point.low:+.4f}, {point.high:+.4f}]"


def memory(point: Point, length: int, batch: int) -> str:
    """`576 bytes a token, 0.151 GB at 32,768 tokens x 8`."""
    size = f"{point.gigabytes(length, batch):.3g} GB at {length:,} tokens x {batch}"
    return f"{point.bytes_per_token:,.0f} bytes a token, {size}"


def _named(points: Sequence[Point]) -> str:
    """Names of the first few, cheapest first, and how many more there are."""
    said = "; ".join(one.name for one in points[:NAMED])
    more = len(points) - NAMED
    return f"{said}; and {number_of(more, 'other')}" if more > 0 else said
