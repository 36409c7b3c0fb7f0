"""Lesson 2: wavelengths beside the trained window, and the part of each circle that is new."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, GREY, ORANGE, Picture, framed
from qroar_core.lessons.result import Window


@once
def window(shown: Window) -> Picture:
    """Wavelength by pair over the seen and the new share of its circle."""
    native, length = shown.original_context, shown.length
    pairs = list(range(len(shown.wavelength)))
    slow = [turns < 1 for turns in shown.turns]
    table = pd.DataFrame(
        {
            "pair": pairs,
            "wavelength_tokens": shown.wavelength,
            "turns_in_native_window": shown.turns,
            "circle_seen": shown.seen,
            "circle_new": shown.new,
            "distances_with_new_phase": shown.unseen,
        }
    )
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.55, 0.45])
    for never, name, colour in ((False, "completes a turn in training", BLUE), (True, "never does", ORANGE)):
        here = [i for i in pairs if slow[i] is never]
        figure.add_scatter(
            x=here,
            y=[shown.wavelength[i] for i in here],
            customdata=[shown.turns[i] for i in here],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 8, "symbol": "diamond" if never else "circle"},
            hovertemplate="pair %{x}: one turn in %{y:,.1f} tokens, %{customdata:,.2f} turns in the native "
            "window<extra></extra>",
            row=1,
            col=1,
        )
    for share, name, colour in ((shown.seen, "angles seen", BLUE), (shown.new, "angles new at L", ORANGE)):
        figure.add_bar(
            x=pairs,
            y=share,
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            customdata=shown.unseen,
            hovertemplate=f"pair %{{x}}, {name}: %{{y:.1%}} of the circle; %{{customdata:.1%}} of the distances up to "
            "L meet a new angle<extra></extra>",
            row=2,
            col=1,
            showlegend=False,
        )
    framed(figure, "", "", height=400)
    figure.update_layout(barmode="stack", bargap=0.15, legend={"traceorder": "normal"})
    figure.update_xaxes(title_text="RoPE pair, fast to slow", row=2, col=1)
    figure.update_yaxes(title_text="wavelength, tokens", type="log", dtick=1, tickformat=",", row=1, col=1)
    figure.update_yaxes(title_text="share of the circle", tickformat=".0%", range=[0, 1.02], row=2, col=1)
    _level(figure, native, f"native window L0 = {native:,}", "dash")
    if length > native:
        _level(figure, length, f"context L = {length:,}", "dot")
    return Picture(
        _finding(shown, sum(slow)),
        figure,
        table,
        "Above: how many tokens a pair takes for one turn, on a log axis; a diamond never completed one within the "
        "native window. Below: the part of its circle that training showed (blue) and that length L adds (orange).",
    )


def _level(figure: go.Figure, tokens: int, words: str, dash: str) -> None:
    """A named horizontal line in the upper panel."""
    figure.add_hline(y=tokens, line={"color": GREY, "dash": dash}, row=1, col=1)
    figure.add_annotation(
        x=0, y=math.log10(tokens), text=words, showarrow=False, xanchor="left", yanchor="bottom", row=1, col=1
    )


def _finding(shown: Window, slow: int) -> str:
    count = f"{slow} of {len(shown.turns)} pairs never complete a turn in {shown.original_context:,} tokens"
    fresh = sum(share > 0 for share in shown.new)
    if not slow:
        return f"Every pair completes a turn in {shown.original_context:,} tokens"
    return (
        f"{count}; at {shown.length:,} all {fresh} meet new angles"
        if fresh == slow
        else (f"{count}; at {shown.length:,} {fresh or 'none'} of them meet new angles")
    )
