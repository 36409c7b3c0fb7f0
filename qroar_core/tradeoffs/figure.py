"""Loss against memory of the K/V cache: a mark a format and remedy, with intervals and the front."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from qroar_core.escape import figure_text
from qroar_core.figures.picture import BLUE, COLOURS, GREY, ORANGE, PINK, SKY, Picture, framed
from qroar_core.figures.ticks import log_ticks
from qroar_core.specs.tradeoff import LOSSES, UNIT, Axis, Loss
from qroar_core.tradeoffs.choice import Choice
from qroar_core.tradeoffs.front import Step
from qroar_core.tradeoffs.point import NO_REMEDY, Point
from qroar_core.tradeoffs.table import table_of

# Of the front and the choice: round ones that no remedy has, or `distinct_traces` would give them others
SIGNIFICANT, NOT_SIGNIFICANT, CHOSEN = "hexagon2", "hexagon2-open", "octagon-open"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down", "pentagon", "hourglass")
MARKS = (BLUE, ORANGE, PINK, SKY, *COLOURS)  # of remedies; green is the front
GREEN = "#009E73"
MOST_INTERVALS = 400  # points; of more, only those of the front and the choice have theirs drawn
DIGITS = 6  # significant, of numbers that are drawn


def draw(
    points: Sequence[Point],
    steps: Sequence[Step],
    choice: Choice,
    loss: Loss,
    where: str,
    length: int,
    batch: int,
    axis: Axis,
) -> Picture:
    """The figure of one setup.

    Args:
        where: the setup in words. length, batch: of the memory in GB.
        axis: `bytes` of a token, or `gb` of the whole cache.
    """
    figure = go.Figure()
    known = {id(point): _across(point, length, batch, axis) for point in points}
    few = len(points) <= MOST_INTERVALS
    marked = {id(step.point) for step in steps} | {id(choice.point)}
    number = {id(point): at for at, point in enumerate(points)}
    remedies = list(dict.fromkeys(point.remedy for point in points))
    for served in (True, False):
        for at, remedy in enumerate(remedies):
            mine = [one for one in points if one.remedy == remedy and one.served == served]
            if not mine:
                continue
            name = "no remedy" if remedy == NO_REMEDY else figure_text(remedy)
            symbol = SYMBOLS[at % len(SYMBOLS)]
            colour = MARKS[at % len(MARKS)] if served else GREY
            figure.add_scatter(
                x=[known[id(one)] for one in mine],
                y=[_short(one.loss) for one in mine],
                mode="markers",
                name=name if served else f"{name}: found, not kept",
                marker={"color": colour, "symbol": symbol if served else f"{symbol}-open", "size": 9 if few else 6},
                error_y=_bars([one if few or id(one) in marked else None for one in mine], colour),
                text=[figure_text(one.quantizer) for one in mine],
                customdata=[[number[id(one)]] for one in mine],
                hovertemplate=f"%{{text}}, {name}<br>%{{x:,}} {_unit(axis)}, %{{y:+.4f}}<extra></extra>",
            )
    _front(figure, steps, known, few)
    if choice.point is not None:
        figure.add_scatter(
            x=[known[id(choice.point)]],
            y=[_short(choice.point.loss)],
            mode="markers",
            name="chosen",
            marker={"color": GREEN, "symbol": CHOSEN, "size": 20, "line": {"width": 3}},
            hoverinfo="skip",
        )
    across = "K and V, bytes per token" if axis == "bytes" else f"K and V of {batch} x {length:,} tokens, GB"
    framed(figure, across, LOSSES[loss], height=520, log_x=True)
    figure.add_hline(y=choice.max_loss, line={"color": GREY, "width": 1.5, "dash": "dash"})
    positive = [value for value in known.values() if value > 0]
    if positive:
        figure.update_xaxes(tickvals=log_ticks(positive), tickformat="~g")
    cut = "" if few else f" Of {len(points):,} points only those of the front have their interval drawn."
    return Picture(
        _title(choice, loss),
        figure,
        table_of(points, steps, choice, length, batch),
        "Left is less memory, down is less loss. The green line is the front: of its points none is beaten in both. A "
        "filled green mark loses significantly less than the cheaper filled one, an open one does not. The dashed line "
        f"is the loss that is allowed. Bars are 95 % intervals of each alone, not corrected for their number.{cut}",
        f"{where}.",
    )


def _title(choice: Choice, loss: Loss) -> str:
    limit = f"less than {choice.max_loss:g} {UNIT[loss]}"
    if choice.point is None:
        return f"No format is shown to lose {limit}"
    if not choice.point.quantized:
        return f"Only the unquantized cache is shown to lose {limit}"
    return f"{choice.point.name} is the cheapest that loses {limit}"


def _front(figure: go.Figure, steps: Sequence[Step], known: dict[int, float], few: bool) -> None:
    """The front as a staircase: what the least loss is with so much memory, and which of its points stand."""
    if not steps:
        return
    figure.add_scatter(
        x=[known[id(step.point)] for step in steps],
        y=[_short(step.point.loss) for step in steps],
        mode="lines",
        line={"color": GREEN, "width": 2, "shape": "hv"},
        name="front",
        hoverinfo="skip",
    )
    for significant, name, symbol, size in (
        (True, "significant", SIGNIFICANT, 6),
        (False, "gain not significant", NOT_SIGNIFICANT, 13 if few else 8),
    ):
        mine = [step.point for step in steps if step.significant == significant]
        if mine:
            figure.add_scatter(
                x=[known[id(one)] for one in mine],
                y=[_short(one.loss) for one in mine],
                mode="markers",
                name=f"front: {name}",
                marker={"color": GREEN, "symbol": symbol, "size": size},
                hoverinfo="skip",
            )


def _across(point: Point, length: int, batch: int, axis: Axis) -> float:
    return _short(point.bytes_per_token if axis == "bytes" else point.gigabytes(length, batch))


def _unit(axis: Axis) -> str:
    return "bytes a token" if axis == "bytes" else "GB"


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _bars(points: Sequence[Point | None], colour: str) -> dict[str, object]:
    """Intervals of the marks; a mark without one has a bar of length 0, and no points at all none."""
    ends = [(one.loss, one.low, one.high) if one is not None else None for one in points]
    up = [0.0 if e is None or e[2] is None else _short(e[2] - e[0]) for e in ends]
    down = [0.0 if e is None or e[1] is None else _short(e[0] - e[1]) for e in ends]
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": colour}
    return bars | {"thickness": 1.2, "width": 4, "visible": any(up) or any(down)}
