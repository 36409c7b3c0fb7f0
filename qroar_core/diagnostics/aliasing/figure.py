"""Aliasing: phases never seen in training, and distances a band cannot tell apart."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BAND_AXIS, BLUE, PINK, Picture, band_names, framed, line_of
from qroar_core.results import Diagnosis

LEAST_SHOWN = 0.005  # a smaller share prints as 0 %


def kernel(diagnosis: Diagnosis) -> Picture:
    """Envelope of the band kernel C_b over distance."""
    shown = diagnosis.kernel
    bands = diagnosis.bands
    figure = go.Figure()
    for band in bands:
        high = shown.high[band.index]
        figure.add_scatter(
            x=shown.distance, y=high, mode="lines", name=f"band {band.index}",
            line={**line_of(band.index), "width": 1.8},
            hovertemplate=f"band {band.index}, distance %{{x}}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    peaks = [(b.index, shown.side_peak_at[b.index], b.side_peak) for b in bands if b.side_peak is not None]
    figure.add_scatter(
        x=[at for _, at, _ in peaks], y=[height for *_, height in peaks], mode="markers", name="highest side peak",
        marker={"symbol": "circle-open", "size": 11, "line": {"width": 2},
                "color": [line_of(band)["color"] for band, *_ in peaks]},
        customdata=[band for band, *_ in peaks],
        hovertemplate="band %{customdata}, distance %{x}: %{y:.3f}<extra>highest side peak</extra>",
    )  # fmt: skip
    framed(figure, "distance, tokens", "kernel C_b (largest per bucket)", log_x=True)
    table = pd.DataFrame(
        [
            {"band": b.index, "distance": d, "low": shown.low[b.index][i], "high": shown.high[b.index][i]}
            for b in bands
            for i, d in enumerate(shown.distance)
        ]
    )
    return Picture(
        _kernel_title(diagnosis),
        figure,
        table,
        "1 means a token at that distance looks to the band as one at distance 0. A second rise "
        "far out is an alias; the rings mark the highest of each band.",
    )


def unseen(diagnosis: Diagnosis) -> Picture:
    """Share of unseen phases and frequency compression by band."""
    names = band_names(diagnosis.bands)
    table = pd.DataFrame(
        [(b.index, b.turns, b.unseen_phase, b.compression, b.side_peak) for b in diagnosis.bands],
        columns=["band", "turns_per_native_window", "unseen_phase", "compression", "side_peak"],
    )
    figure = go.Figure()
    for column, name, colour in (
        ("unseen_phase", "phases never seen in training", PINK),
        ("compression", "frequency left, ω(s)/ω", BLUE),
    ):
        figure.add_bar(x=names, y=table[column], name=name, marker={"color": colour},
                       hovertemplate=f"band %{{x}}: %{{y:.3f}}<extra>{name}</extra>")  # fmt: skip
    framed(figure, BAND_AXIS, "share, 0 to 1")
    worst = table["unseen_phase"].max()
    title = (
        "No band meets phases it never saw in training"
        if worst < LEAST_SHOWN
        else f"Up to {worst:.0%} of a band's phases are new"
    )
    return Picture(
        title,
        figure,
        table,
        f"At {diagnosis.length} tokens: a band with under one turn per native window meets new phases unless its "
        "frequency is compressed enough.",
    )


def _kernel_title(diagnosis: Diagnosis) -> str:
    peaks = [(b.side_peak, b.index) for b in diagnosis.bands if b.side_peak is not None]
    if not peaks:
        return f"No band mistakes far for near within {diagnosis.length:,} tokens"
    height, band = max(peaks)
    far = diagnosis.kernel.side_peak_at[band]
    return f"Band {band} takes {far:,} tokens away for near: its kernel rises to {height:.2f} again"
