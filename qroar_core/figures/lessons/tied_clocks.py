"""Lesson 8: the logit of two pairs untied and tied, what a tie costs by distance, and what mixing then buys."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, RED, Picture, framed
from qroar_core.lessons.result import TiedClocks


@once
def tied_clocks(shown: TiedClocks) -> Picture:
    """Above the cost by distance, below what is bought."""
    figure = make_subplots(rows=2, cols=2, horizontal_spacing=0.13, vertical_spacing=0.18)
    distances = list(range(shown.length))
    for y, name, colour, dash, width in (
        (shown.logit, "each at its own frequency", GREY, "solid", 6),
        (shown.tied_logit, "tied", RED, "solid", 2),
    ):
        line = {"color": colour, "dash": dash, "width": width}
        hover = f"distance %{{x:,}}: %{{y:.3f}}<extra>{name}</extra>"
        figure.add_scatter(x=distances, y=y, mode="lines", name=name, line=line, hovertemplate=hover, row=1, col=1)
    figure.add_scatter(
        x=distances,
        y=shown.change,
        mode="lines",
        name="change of a logit",
        line={"color": ORANGE, "width": 2, "dash": "dot"},
        hovertemplate="distance %{x:,}: %{y:.3f}<extra>RMS change</extra>",
        row=1,
        col=2,
    )
    _bars(figure, shown)
    framed(figure, "", "", height=455)
    figure.update_layout(margin={"t": 30, "b": 62})
    for column, words in ((1, "logit"), (2, "RMS change of a logit")):
        figure.update_xaxes(title_text="distance between query and key, tokens", row=1, col=column)
        figure.update_yaxes(title_text=words, row=1, col=column)
    figure.update_yaxes(rangemode="tozero", row=1, col=2)
    figure.update_xaxes(title_text="channel of K", row=2, col=1)
    figure.update_yaxes(title_text="RMS of K", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="pairs, and what is done to K", row=2, col=2)
    figure.update_yaxes(title_text="logit error", tickformat=".0%", rangemode="tozero", row=2, col=2)
    return Picture(
        finding(shown),
        figure,
        _table(shown),
        "Above, left: what the two pairs add to the logit of the mean query and key. Above, right: how far the tie "
        "moves a logit of all queries and keys read, by their distance. Below, left: the size of K's four channels "
        "before and after they are mixed. Below, right: RMS error of the text's logits as a share of their RMS, "
        "counted from the untied model that is not rounded; only a green bar below the grey one means that the tie "
        "pays.",
    )


def finding(shown: TiedClocks) -> str:
    """The title: does what is bought exceed the cost?"""
    first, last = shown.first, shown.first + 1
    what = f"Pairs {first} and {last} {'tied' if shown.turn else 'held still'}"
    way = "falls" if shown.mixed_int4 < shown.untied_int4 else "rises"
    return (
        f"{what}, then mixed: the int4 error of the logits {way} from {shown.untied_int4:.1%} to {shown.mixed_int4:.1%}"
    )


def _errors(shown: TiedClocks) -> list[tuple[str, float, str]]:
    return [
        ("untied,<br>int4", shown.untied_int4, GREY),
        ("tied,<br>not rounded", shown.tied, ORANGE),
        ("tied,<br>int4", shown.tied_int4, RED),
        ("tied, mixed,<br>int4", shown.mixed_int4, GREEN),
    ]


def _bars(figure: go.Figure, shown: TiedClocks) -> None:
    names = [name.replace(", ", ",<br>") for name in shown.channels]
    for y, name, colour in ((shown.range_before, "K before", BLUE), (shown.range_after, "K mixed", GREEN)):
        hover = f"%{{y:.2f}}<extra>{name}</extra>"
        figure.add_bar(x=names, y=y, name=name, marker={"color": colour}, hovertemplate=hover, row=2, col=1)
    errors = _errors(shown)
    figure.add_bar(
        x=[words for words, _, _ in errors],
        y=[error for _, error, _ in errors],
        marker={"color": [colour for _, _, colour in errors]},
        text=[f"{error:.1%}" for _, error, _ in errors],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y:.2%}<extra></extra>",
        showlegend=False,
        row=2,
        col=2,
    )


def _table(shown: TiedClocks) -> pd.DataFrame:
    distances = range(shown.length)
    return pd.DataFrame(
        {
            "distance": distances,
            "untied_logit": shown.logit,
            "tied_logit": shown.tied_logit,
            "rms_change": shown.change,
            "angle_off_first_pair": [(shown.common - shown.own[0]) * d for d in distances],
            "angle_off_second_pair": [(shown.common - shown.own[1]) * d for d in distances],
        }
    )
