"""Lesson 5: a turning pair on the quantizer's grid, and its error over the angle."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, GREY, ORANGE, RED, Picture, framed
from qroar_core.lessons.result import Turning

MARGIN = 1.25  # of the pair's length: what the left panel shows
MOST_DOTS = 41  # levels an axis up to which grid points are drawn one by one


@once
def turning(shown: Turning) -> Picture:
    """Grid, circle and rounded points; beside them the error by angle."""
    degrees = [math.degrees(a) for a in shown.angle]
    figure = make_subplots(rows=1, cols=2, column_widths=[0.5, 0.5], horizontal_spacing=0.13)
    reach = MARGIN * shown.length
    _grid(figure, [level for level in shown.levels if abs(level) <= reach])
    figure.add_scatter(
        x=[*shown.x, shown.x[0]],
        y=[*shown.y, shown.y[0]],
        mode="lines",
        name="the pair as it turns",
        line={"color": BLUE, "width": 2},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=shown.rounded_x,
        y=shown.rounded_y,
        customdata=degrees,
        mode="markers",
        name="after rounding",
        marker={"color": ORANGE, "size": 8},
        row=1,
        col=1,
        hovertemplate="at %{customdata:.1f}°: (%{x:.3f}, %{y:.3f})<extra>after rounding</extra>",
    )
    at = shown.at
    figure.add_scatter(
        x=[0, shown.x[at], shown.rounded_x[at]],
        y=[0, shown.y[at], shown.rounded_y[at]],
        mode="lines+markers",
        name=f"at {degrees[at]:.1f}°",
        line={"color": RED, "width": 2.5},
        row=1,
        col=1,
        marker={"color": RED, "size": [1, 11, 11], "symbol": ["circle", "circle", "x"]},
        hovertemplate="(%{x:.3f}, %{y:.3f})<extra>the angle looked at</extra>",
    )
    figure.add_scatter(
        x=degrees,
        y=shown.error,
        mode="lines",
        line={"color": ORANGE, "width": 2},
        showlegend=False,
        row=1,
        col=2,
        hovertemplate="%{x:.1f}°: error %{y:.1%} of the pair's length<extra></extra>",
    )
    figure.add_scatter(
        x=[degrees[at]],
        y=[shown.error[at]],
        mode="markers",
        marker={"color": RED, "size": 12, "symbol": "x"},
        hovertemplate="%{x:.1f}°: error %{y:.1%}<extra>the angle looked at</extra>",
        showlegend=False,
        row=1,
        col=2,
    )
    framed(figure, "", "", height=455)
    figure.update_xaxes(
        title_text="first channel of the pair", range=[-reach, reach], constrain="domain", showgrid=False, col=1
    )
    figure.update_yaxes(
        title_text="second channel",
        range=[-reach, reach],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
        showgrid=False,
        col=1,
    )
    figure.update_xaxes(title_text="angle of the pair, degrees", dtick=45, range=[0, 360], col=2)
    figure.update_yaxes(title_text="error, share of the pair's length", tickformat=".0%", rangemode="tozero", col=2)
    table = pd.DataFrame(
        {
            "angle_degrees": degrees,
            "x": shown.x,
            "y": shown.y,
            "rounded_x": shown.rounded_x,
            "rounded_y": shown.rounded_y,
            "step": shown.step,
            "error": shown.error,
        }
    )
    return Picture(
        _finding(shown),
        figure,
        table,
        "Left: grey dots are what the quantizer can store, the circle is where RoPE takes the pair, orange is where "
        "rounding puts it. Right: the distance between the two. The red cross is the angle chosen above.",
    )


def _grid(figure: go.Figure, levels: list[float]) -> None:
    """Grid points; beyond MOST_DOTS levels the lines they lie on."""
    if len(levels) <= MOST_DOTS:
        figure.add_scatter(
            x=[a for a in levels for _ in levels],
            y=[b for _ in levels for b in levels],
            mode="markers",
            marker={"color": GREY, "size": 4, "opacity": 0.8},
            name="levels of the grid",
            row=1,
            col=1,
            hovertemplate="(%{x:.3f}, %{y:.3f})<extra>grid</extra>",
        )
        return
    ends = [levels[0], levels[-1], None]
    figure.add_scatter(
        x=[*(v for a in levels for v in (a, a, None)), *(ends * len(levels))],
        y=[*(ends * len(levels)), *(v for b in levels for v in (b, b, None))],
        mode="lines",
        name="levels of the grid",
        line={"color": GREY, "width": 0.4},
        opacity=0.5,
        hoverinfo="skip",
        row=1,
        col=1,
    )


def _finding(shown: Turning) -> str:
    least, most = min(shown.error), max(shown.error)
    if least > 0.999:
        return f"int{shown.bits} rounds the whole pair to zero: the range of the other channel takes up all levels"
    return f"int{shown.bits}: the error swings between {least:.1%} and {most:.1%} of the pair's length with its angle"
