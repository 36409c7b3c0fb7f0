"""Lesson 4: one band's kernel over distance, and every band's highest side peak."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, ORANGE, Picture, framed
from qroar_core.interpolations.registry import label_of
from qroar_core.lessons.result import Aliasing, Kernel

SHADE = {BLUE: "rgba(0,114,178,0.25)", ORANGE: "rgba(230,159,0,0.3)"}
NATIVE = "no interpolation"


@once
def kernel(shown: Aliasing, band: int) -> Picture:
    """C_b of one band before and after the interpolation, side peaks marked."""
    figure = go.Figure()
    for found, label, colour, dash in (
        (shown.native, NATIVE, BLUE, "dot"),
        (shown.scaled, _name(shown), ORANGE, "solid"),
    ):
        _curve(figure, shown, found, band, label, colour, dash)
    framed(figure, "distance D between query and key, tokens", "kernel C_b", height=400)
    figure.update_yaxes(range=[-1.05, 1.12])
    table = pd.DataFrame(
        {
            "distance": shown.distance,
            "native_low": shown.native.low[band],
            "native_high": shown.native.high[band],
            "interpolated_low": shown.scaled.low[band],
            "interpolated_high": shown.scaled.high[band],
        }
    )
    first, last = shown.bands[band]
    peak, at = shown.scaled.peak[band], shown.scaled.peak_at[band]
    reach = shown.distance[-1] + shown.bucket - 1
    title = (
        f"Band {band} (pairs {first}–{last}) takes distance {at:,} for near: side peak {peak:.2f}"
        if peak is not None
        else f"Band {band} (pairs {first}–{last}) has no side peak up to {reach:,} tokens"
    )
    width = f" A point covers {shown.bucket} distances, lowest to highest." if shown.bucket > 1 else ""
    return Picture(
        title,
        figure,
        table,
        "C_b(D) is the mean of cos(ω D) over the band's pairs: 1 means a token at that distance looks like "
        f"one at distance 0. A diamond marks the highest peak away from 0.{width}",
    )


def _name(shown: Aliasing) -> str:
    return f"{label_of(shown.method)} ×{shown.factor:g}"


def _curve(figure: go.Figure, shown: Aliasing, found: Kernel, band: int, label: str, colour: str, dash: str) -> None:
    line = {"color": colour, "dash": dash, "width": 1.6}
    if shown.bucket > 1:
        figure.add_scatter(
            x=shown.distance,
            y=found.low[band],
            mode="lines",
            line={**line, "width": 0.5},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
        )
    figure.add_scatter(
        x=shown.distance,
        y=found.high[band],
        mode="lines",
        name=label,
        line=line,
        legendgroup=label,
        fill="tonexty" if shown.bucket > 1 else None,
        fillcolor=SHADE[colour],
        hovertemplate=f"{label}, distance %{{x:,}}: %{{y:.3f}}<extra></extra>",
    )
    if found.peak[band] is not None:
        figure.add_scatter(
            x=[found.peak_at[band]],
            y=[found.peak[band]],
            mode="markers",
            legendgroup=label,
            showlegend=False,
            marker={"color": colour, "size": 13, "symbol": "diamond", "line": {"width": 1.5, "color": "white"}},
            hovertemplate=f"{label}, highest side peak: %{{y:.3f}} at %{{x:,}} tokens<extra></extra>",
        )


@once
def peaks(shown: Aliasing) -> Picture:
    """Highest side peak of every band before and after."""
    bands = [str(b) for b in range(len(shown.bands))]
    figure = go.Figure()
    for found, label, colour in (
        (shown.native, NATIVE, BLUE),
        (shown.scaled, _name(shown), ORANGE),
    ):
        figure.add_bar(
            x=bands,
            y=found.peak,
            name=label,
            marker={"color": colour},
            customdata=found.peak_at,
            hovertemplate=f"band %{{x}}, {label}: %{{y:.3f}} at %{{customdata:,}} tokens<extra></extra>",
        )
    framed(figure, "band, fast to slow", "highest side peak of C_b", height=400)
    figure.update_xaxes(type="category")
    table = pd.DataFrame(
        [
            (b, *pairs, *(row[b] for k in (shown.native, shown.scaled) for row in (k.peak, k.peak_at)))
            for b, pairs in enumerate(shown.bands)
        ],
        columns=["band", "first_pair", "last_pair", "native_peak", "native_at", "interpolated_peak", "interpolated_at"],
    )
    return Picture(
        "Which bands confuse far with near?",
        figure,
        table,
        "A tall bar means some far distance looks to the band almost like distance 0. No bar: no side peak "
        "within the distances drawn.",
    )
