"""Lesson 7: a pair without and with a transform, its logit over the distance, and int4's error over the amount."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, GREY, ORANGE, RED, Picture, framed
from qroar_core.lessons.result import Commuting

EXACT = 1e-9  # of a logit: what float64 leaves of nothing
REACH = 1.25  # of the longest arrow: what the planes show at the least
Vector = tuple[float, float]


@once
def commuting(shown: Commuting) -> Picture:
    """Two planes above; below them the logit by distance, and the error by amount."""
    figure = make_subplots(rows=2, cols=2, horizontal_spacing=0.13, vertical_spacing=0.18)
    edge = _planes(figure, shown)
    distances = list(range(len(shown.logit)))
    for y, name, colour, dash, width in (
        (shown.logit, "without", GREY, "solid", 6),
        (shown.moved_logit, "with the transform", RED, "solid", 2),
    ):
        line = {"color": colour, "dash": dash, "width": width}
        hover = f"distance %{{x:,}}: %{{y:.3f}}<extra>{name}</extra>"
        figure.add_scatter(x=distances, y=y, mode="lines", name=name, line=line, hovertemplate=hover, row=2, col=1)
    _errors(figure, shown)
    framed(figure, "", "", height=455)
    _plane_axes(figure, edge)
    figure.add_vline(x=shown.distance, line={"color": GREY, "dash": "dot", "width": 1}, row=2, col=1)
    figure.update_xaxes(title_text="distance between query and key, tokens", row=2, col=1)
    figure.update_yaxes(title_text="logit", row=2, col=1)
    figure.update_xaxes(title_text=shown.knob, row=2, col=2)
    figure.update_yaxes(title_text="logit error", tickformat=".0%", rangemode="tozero", row=2, col=2)
    figure.update_layout(margin={"t": 30, "b": 46})
    return Picture(
        finding(shown),
        figure,
        _table(shown),
        "Above: the mean query of the head, turned by the distance shown, and its mean key, each as long as it is or "
        "as the transform makes it; a second pair is dashed. Below, left: their logit at every distance. Below, right: "
        "error of the logits of real text by the amount, as a share of their RMS, of the transform alone and with K in "
        "int4; a number that all keys of a query share is left out, as attention does not see it. The cross is the "
        "amount chosen.",
    )


def exact(shown: Commuting) -> bool:
    """Whether attention is left as it is at every distance."""
    return shown.deviation < EXACT


def finding(shown: Commuting) -> str:
    """The title: do logits stay, and by how much not."""
    if exact(shown):
        stays = "all logits of a query move alike" if shown.offset else "no logit changes at any distance"
        return f"{shown.label}: {stays}"
    return f"{shown.label}: a logit moves by up to {shown.deviation:.2g}, {_relative(shown):.0%} of its largest"


def _relative(shown: Commuting) -> float:
    return shown.deviation / max(map(abs, shown.logit))


def _planes(figure: go.Figure, shown: Commuting) -> float:
    """Query and key as arrows, each as a share of its length without the transform; returns what the planes show."""
    long_q, long_k = (math.hypot(*(x for v in vectors for x in v)) for vectors in _columns(shown)[:2])
    query, key, moved_query, moved_key = _columns(shown)
    edge = REACH
    for column, (queries, keys) in enumerate(((query, key), (moved_query, moved_key)), 1):
        for name, colour, vectors, unit in (("query", ORANGE, queries, long_q), ("key", BLUE, keys, long_k)):
            for at, (pair, (x, y)) in enumerate(zip(shown.pairs, vectors, strict=True)):
                tip = (x / unit, y / unit)
                edge = max(edge, 1.1 * math.hypot(*tip))
                figure.add_scatter(
                    x=[0, tip[0]],
                    y=[0, tip[1]],
                    mode="lines+markers",
                    name=name,
                    legendgroup=f"{name} {at}",
                    showlegend=column == 1 and not at,
                    line={"color": colour, "width": 3, "dash": "dash" if at else "solid"},
                    marker={"color": colour, "size": [1, 10], "symbol": "circle" if name == "key" else "diamond"},
                    hovertemplate=f"(%{{x:.3f}}, %{{y:.3f}})<extra>{name}, pair {pair}</extra>",
                    row=1,
                    col=column,
                )
    return edge


def _plane_axes(figure: go.Figure, edge: float) -> None:
    """Both planes at one size, with lines through their middle."""
    alike = {"range": [-edge, edge], "constrain": "domain", "showgrid": False, "zeroline": True, "zerolinecolor": GREY}
    for column, anchor, words in ((1, "x", "without"), (2, "x2", "with the transform")):
        figure.update_xaxes(title_text=f"first channel, {words}", **alike, row=1, col=column)
        figure.update_yaxes(title_text="second channel", scaleanchor=anchor, **alike, row=1, col=column)


def _columns(shown: Commuting) -> Sequence[list[Vector]]:
    """Queries and keys without, then with the transform, one of each a pair."""
    return (
        [a.query for a in shown.arrows],
        [a.key for a in shown.arrows],
        [a.moved_query for a in shown.arrows],
        [a.moved_key for a in shown.arrows],
    )


def _errors(figure: go.Figure, shown: Commuting) -> None:
    swept = shown.sweep
    for y, name, colour, dash in (
        ([swept.plain_error] * len(swept.amounts), "int4 K, without", GREY, "dash"),
        (swept.error, "int4 K, transformed", RED, "solid"),
        (swept.change, "transformed, not rounded", BLUE, "dot"),
    ):
        hover = f"%{{x:g}}: %{{y:.2%}}<extra>{name}</extra>"
        line = {"color": colour, "dash": dash, "width": 2}
        figure.add_scatter(x=swept.amounts, y=y, mode="lines", name=name, line=line, hovertemplate=hover, row=2, col=2)
    figure.add_scatter(
        x=[swept.amounts[shown.at]],
        y=[swept.error[shown.at]],
        mode="markers",
        name="the amount chosen",
        marker={"color": RED, "size": 12, "symbol": "x"},
        hovertemplate="%{x:g}: %{y:.2%}<extra>the amount chosen</extra>",
        showlegend=False,
        row=2,
        col=2,
    )


def _table(shown: Commuting) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "distance": range(len(shown.logit)),
            "logit": shown.logit,
            "transformed_logit": shown.moved_logit,
        }
    )


def summary(every: Sequence[Commuting]) -> pd.DataFrame:
    """One row a transform: the largest logit change at the amount shown, and int4's error without and at its best."""
    return pd.DataFrame(
        [
            (
                one.label,
                "stay" if exact(one) else "change",
                0.0 if exact(one) else one.deviation,
                one.sweep.plain_error,
                one.sweep.error[one.sweep.best],
                one.sweep.amounts[one.sweep.best],
                one.sweep.plain_key_error,
                one.sweep.key_error[one.sweep.best],
            )
            for one in every
        ],
        columns=[
            "transform",
            "logits",
            "largest change",
            "int4 logit error without",
            "at the best amount",
            "best amount",
            "int4 K error without",
            "K error at that amount",
        ],
    )
