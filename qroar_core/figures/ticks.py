"""Ticks of logarithmic axes: round numbers, written in full, that do not run into each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import plotly.graph_objects as go

MANTISSAS = ((1, 2, 5), (1, 2, 3, 5, 7), range(1, 10), [m / 2 for m in range(2, 20)])  # of ticks, sparse to dense
TICKS = 4  # at the least, on an axis of ratios
FEW, MANY = 2, 6  # decades: beyond the first 1, 2, 5 run together in a narrow window, beyond the second every decade


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers on a logarithmic axis over positive `values`: at least four within their span where they span any.

    Plotly's own choice, decades or 1-2-5, leaves one tick or none where values differ by less than twofold.
    """
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in MANTISSAS:
        ticks = [float(f"{m}e{decade}") for decade in decades for m in mantissas]
        if sum(low <= tick <= high for tick in ticks) >= TICKS:
            break
    outside = [t for t in ticks if t < low][-1:], [t for t in ticks if t > high][:1]
    return sorted({*outside[0], *(t for t in ticks if low <= t <= high), *outside[1]})


def plain_ticks(figure: go.Figure) -> None:
    """Write `20` on logarithmic axes, where Plotly writes a `2` of 9 pixels between 10 and 100, in place.

    Upright axes of two decades or less get 1, 2, 5: Plotly's own 0.8, 0.9, 1 stand on each other in a low panel.
    """
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        if axis.type != "log" or axis.ticktext is not None:
            continue
        if axis.tickformat is None:
            axis.tickformat = "~g"
        values = positive(figure, axis.plotly_name)
        if axis.tickvals is not None or axis.dtick is not None or not values:
            continue
        decades = math.log10(max(values) / min(values))
        if decades > FEW:
            axis.dtick = 1 if decades <= MANY else 2
        elif axis.plotly_name.startswith("y"):
            axis.tickvals = log_ticks(values)


def positive(figure: go.Figure, axis: str) -> list[float]:
    """The numbers above 0 of the traces on an axis (`xaxis`, `yaxis2`)."""
    letter, name = axis[0], axis.replace("axis", "")
    found = [trace[letter] for trace in figure.data if (trace[f"{letter}axis"] or letter) == name]
    numbers = (float(v) for of in found if of is not None for v in of if isinstance(v, Real))
    return [v for v in numbers if 0 < v < math.inf]
