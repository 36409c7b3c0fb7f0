"""Lesson 1: pairs as clock hands that play in the browser, without asking the server."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, GREY, ORANGE, Picture, framed
from qroar_core.lessons.result import Clocks

SPACING = 2.3  # between the centres of clocks of radius 1
WEDGE_RADIUS = 0.55
WEDGE_POINTS = 14
DIAL_POINTS = 48
FRAME_MS = 90
DIGITS = 3
Line = tuple[list[float], list[float]]  # x and y


@once
def clocks(shown: Clocks) -> Picture:
    """Hands of the key and the query on every clock, the angle between them filled, and a Play button."""
    first, *_ = moves = [_moving(shown, frame) for frame in range(len(shown.positions))]
    hand = {"mode": "lines", "hoverinfo": "skip"}
    figure = go.Figure()
    figure.add_scatter(
        **first[0],
        mode="lines",
        fill="toself",
        fillcolor="rgba(138,138,138,0.35)",
        line={"width": 0},
        hoverinfo="skip",
        name="angle between them",
    )
    figure.add_scatter(**first[1], **hand, name="key", line={"color": BLUE, "width": 4})
    figure.add_scatter(**first[2], **hand, name="query", line={"color": ORANGE, "width": 4})
    figure.add_scatter(**first[3], mode="text", textfont={"size": 15}, hoverinfo="skip", showlegend=False)
    dial = _joined([_arc(c, 1.0, 0.0, 2 * math.pi, DIAL_POINTS) for c in range(len(shown.pairs))])
    figure.add_scatter(**dial, mode="lines", line={"color": GREY, "width": 1.5}, hoverinfo="skip", showlegend=False)
    figure.frames = [
        {"name": str(f), "traces": [0, 1, 2, 3], "data": [{"type": "scatter", **trace} for trace in move]}
        for f, move in enumerate(moves)
    ]
    framed(figure, "RoPE pair, fast to slow, and the tokens it takes for one turn", "", height=310)
    names = [
        f"<b>pair {pair}</b><br>{_tokens(length)}" for pair, length in zip(shown.pairs, shown.wavelength, strict=True)
    ]
    centres = [SPACING * c for c in range(len(shown.pairs))]
    figure.update_xaxes(tickvals=centres, ticktext=names, showgrid=False, range=[-1.15, centres[-1] + 1.15])
    figure.update_yaxes(visible=False, scaleanchor="x", range=[-1.15, 1.75], constrain="domain", constraintoward="top")
    figure.update_layout(updatemenus=[_buttons()], margin={"l": 10, "r": 10, "t": 36, "b": 84})
    degrees = [[math.degrees(a) for a in row] for row in (shown.key[0], shown.query[0], shown.between)]
    table = pd.DataFrame(
        {
            "pair": shown.pairs,
            "wavelength_tokens": shown.wavelength,
            "key_degrees": degrees[0],
            "query_degrees": degrees[1],
            "between_degrees": degrees[2],
        }
    )
    return Picture(
        f"{shown.distance} tokens apart, the two hands of a clock keep their angle wherever the tokens are",
        figure,
        table,
        "Each clock is one RoPE pair. A hand starts at the right and turns counter-clockwise by ω per token; the grey "
        "angle between the hands is all that a logit depends on of the two positions. Play moves both tokens on.",
    )


def _moving(shown: Clocks, frame: int) -> list[dict]:
    """What changes from frame to frame in the first four traces: angle, key, query, and the words above them."""
    key, query, place = shown.key[frame], shown.query[frame], shown.positions[frame]
    middle = SPACING * (len(shown.pairs) - 1) / 2
    words = f"key at position {place}, query at position {place + shown.distance}"
    return [
        _joined([_wedge(c, angle, between) for c, (angle, between) in enumerate(zip(key, shown.between, strict=True))]),
        _joined([_hand(c, angle) for c, angle in enumerate(key)]),
        _joined([_hand(c, angle) for c, angle in enumerate(query)]),
        {"x": [middle], "y": [1.45], "text": [words]},
    ]


def _hand(clock: int, angle: float) -> Line:
    centre = SPACING * clock
    return [centre, centre + math.cos(angle)], [0.0, math.sin(angle)]


def _wedge(clock: int, start: float, angle: float) -> Line:
    x, y = _arc(clock, WEDGE_RADIUS, start, start + angle, WEDGE_POINTS)
    centre = SPACING * clock
    return [centre, *x, centre], [0.0, *y, 0.0]


def _arc(clock: int, radius: float, start: float, end: float, points: int) -> Line:
    angles = [start + (end - start) * i / (points - 1) for i in range(points)]
    return [SPACING * clock + radius * math.cos(a) for a in angles], [radius * math.sin(a) for a in angles]


def _joined(lines: list[Line]) -> dict[str, np.ndarray]:
    """Several lines as the x and y of one trace, None where the pen lifts; few digits keep the frames small.

    Arrays of objects: plotly checks lists number by number, which for all frames takes longer than a slider may.
    """

    def column(axis: int) -> np.ndarray:
        values = [None if v is None else round(v, DIGITS) for line in lines for v in (*line[axis], None)]
        return np.array(values, dtype=object)

    return {"x": column(0), "y": column(1)}


def _tokens(wavelength: float) -> str:
    return f"{wavelength:.1f} tokens" if wavelength < 100 else f"{wavelength:,.0f} tokens"


def _buttons() -> dict:
    def button(label: str, frames: list | None, duration: int) -> dict:
        how = {
            "frame": {"duration": duration, "redraw": True},
            "transition": {"duration": 0},
            "fromcurrent": True,
            "mode": "immediate",
        }
        return {"label": label, "method": "animate", "args": [frames, how]}

    return {
        "type": "buttons",
        "direction": "left",
        "x": 0,
        "xanchor": "left",
        "y": 0,
        "yanchor": "top",
        "bgcolor": "rgba(138,138,138,0.15)",
        "bordercolor": GREY,
        "pad": {"t": 44},
        "showactive": False,
        "buttons": [button("▶ Play", None, FRAME_MS), button("❚❚ Pause", [None], 0)],
    }
