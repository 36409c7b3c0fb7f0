"""The table of a trade-off: a row a point."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from qroar_core.tradeoffs.choice import Choice
from qroar_core.tradeoffs.front import Step
from qroar_core.tradeoffs.point import Point

CHOSEN, FRONT, NOT_SHOWN, NOT_KEPT = "chosen", "front", "front, gain not significant", "found, not kept"
COLUMNS = ("quantizer", "remedy", "bytes_per_token", "GB", "loss", "loss_low", "loss_high", "role", "beside")


def roles(points: Sequence[Point], steps: Sequence[Step], choice: Choice) -> list[str]:
    """What each point is, in the order given; several words where several hold."""
    on_front = {id(step.point): FRONT if step.significant else NOT_SHOWN for step in steps}
    said = []
    for point in points:
        mine = [CHOSEN] if point is choice.point else []
        mine += [on_front[id(point)]] if id(point) in on_front else []
        mine += [] if point.served else [NOT_KEPT]
        said.append("; ".join(mine))
    return said


def table_of(points: Sequence[Point], steps: Sequence[Step], choice: Choice, length: int, batch: int) -> pd.DataFrame:
    """One row a point, cheapest first, `beside`: what a point of the front gains over the cheaper one that stands."""
    ordered = sorted(points, key=lambda one: (one.bytes_per_token, one.loss))
    beside = {id(step.point): _gain(step) for step in steps}
    rows = [
        (
            point.quantizer,
            point.remedy,
            point.bytes_per_token,
            point.gigabytes(length, batch),
            point.loss,
            point.low,
            point.high,
            role,
            beside.get(id(point), ""),
        )
        for point, role in zip(ordered, roles(ordered, steps, choice), strict=True)
    ]
    numbers = ("bytes_per_token", "GB", "loss", "loss_low", "loss_high")
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(numbers, "float64"))


def _gain(step: Step) -> str:
    """`+0.0123 [+0.0010, +0.0236] over k=int4`."""
    if step.gain is None or step.over is None:
        return ""
    how = "" if step.paired else ", not paired"
    return f"{step.gain.mean:+.4f} [{step.gain.low:+.4f}, {step.gain.high:+.4f}] over {step.over.name}{how}"
