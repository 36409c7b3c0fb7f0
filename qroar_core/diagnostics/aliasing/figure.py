"""Aliasing: phases never seen in training, and distances a band cannot tell apart."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import of_frequencies
from qroar_core.figures.picture import (
    BAND_AXIS,
    BLUE,
    FROM_FREQUENCIES,
    GREY,
    PINK,
    Picture,
    band_names,
    framed,
    line_of,
)

LEAST_SHOWN = 0.005  # a smaller share prints as 0 %
ALIKE = 0.02  # side peaks that differ by less are called as high
NULL = "null: native RoPE, own window"


def kernel(diagnosis: Diagnosis) -> Picture:
    """Envelope of the band kernel C_b over distance."""
    shown = diagnosis.kernel
    bands = diagnosis.bands
    figure = go.Figure()
    for band in bands:
        if shown.null is not None:
            figure.add_scatter(
                x=shown.null.distance,
                y=shown.null.high[band.index],
                mode="lines",
                name=NULL,
                legendgroup=NULL,
                showlegend=band is bands[0],
                line={"color": GREY, "dash": "dot", "width": 1},
                hovertemplate=f"band {band.index}, distance %{{x}}: %{{y:.3f}}<extra>{NULL}</extra>",
            )
    for band in bands:
        high = shown.high[band.index]
        figure.add_scatter(
            x=shown.distance,
            y=high,
            mode="lines",
            name=f"band {band.index}",
            line={**line_of(band.index), "width": 1.8},
            hovertemplate=f"band {band.index}, distance %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    peaks = [(b.index, shown.side_peak_at[b.index], b.side_peak) for b in bands if b.side_peak is not None]
    figure.add_scatter(
        x=[at for _, at, _ in peaks],
        y=[height for *_, height in peaks],
        mode="markers",
        name="highest side peak",
        marker={
            "symbol": "circle-open",
            "size": 11,
            "line": {"width": 2},
            "color": [line_of(band)["color"] for band, *_ in peaks],
        },
        customdata=[band for band, *_ in peaks],
        hovertemplate="band %{customdata}, distance %{x}: %{y:.3f}<extra>highest side peak</extra>",
    )
    framed(figure, "distance, tokens", "likeness to distance 0 (kernel C_b)", log_x=True)
    table = pd.DataFrame(
        [
            {
                "band": b.index,
                "kernel": "interpolated",
                "distance": d,
                "low": shown.low[b.index][i],
                "high": shown.high[b.index][i],
            }
            for b in bands
            for i, d in enumerate(shown.distance)
        ]
        + [
            {"band": b.index, "kernel": NULL, "distance": d, "low": None, "high": shown.null.high[b.index][i]}
            for b in bands
            if shown.null is not None
            for i, d in enumerate(shown.null.distance)
        ]
    )
    null = (
        " The null, grey and dotted, is the same kernel of the native RoPE, as far as the model saw in training: a "
        "side peak that is there too comes from neither the interpolation nor a longer context."
        if shown.null is not None
        else " This file keeps no null: diagnose again for the kernel of the native RoPE."
    )
    return Picture(
        _kernel_title(diagnosis),
        figure,
        table,
        "1 means a token at that distance looks to the band as one at distance 0. A second rise "
        f"far out is an alias; the rings mark the highest of each band.{null}",
        FROM_FREQUENCIES,
    )


def unseen(diagnosis: Diagnosis) -> Picture:
    """Share of unseen phases and frequency compression by band."""
    names = band_names(diagnosis.bands)
    native = diagnosis.kernel.null
    table = pd.DataFrame(
        [
            (b.index, b.turns, b.unseen_phase, b.compression, b.side_peak, native and native.side_peak[b.index])
            for b in diagnosis.bands
        ],
        columns=[
            "band",
            "native_turns_per_native_window",
            "unseen_phase",
            "compression",
            "side_peak",
            "null_native_side_peak",
        ],
    )
    figure = go.Figure()
    for column, name, colour, null, dash in (
        ("unseen_phase", "phases never seen in training", PINK, 0.0, "dot"),
        ("compression", "frequency left, ω(s)/ω", BLUE, 1.0, "dash"),
    ):
        figure.add_bar(
            x=names,
            y=table[column],
            name=name,
            marker={"color": colour},
            hovertemplate=f"band %{{x}}: %{{y:.3f}}<extra>{name}</extra>",
        )
        figure.add_scatter(
            x=names,
            y=[null] * len(names),
            mode="lines",
            name=f"null: {name}",
            line={"color": GREY, "dash": dash, "width": 1.5},
        )
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
        "frequency is compressed enough. The nulls, grey, are the native RoPE within its own window: no new phase "
        "(dotted), and all of the frequency left (dashed).",
        FROM_FREQUENCIES,
    )


def _kernel_title(diagnosis: Diagnosis) -> str:
    peaks = [(b.side_peak, b.index) for b in diagnosis.bands if b.side_peak is not None]
    if not peaks:
        return f"No band's kernel rises again within {diagnosis.length:,} tokens"
    height, band = max(peaks)
    far = diagnosis.kernel.side_peak_at[band]
    found = f"The highest alias is at {far:,} tokens: the kernel of band {band} rises to {height:.2f} again"
    if diagnosis.kernel.null is None:
        return found
    native = diagnosis.kernel.null.side_peak[band]
    if native is None:
        return f"{found}, and not at all for native RoPE in its own window"
    level = "as high" if abs(height - native) < ALIKE else f"to {native:.2f}"
    return f"{found}, {level} for native RoPE in its own window"


FIGURES = {"aliasing": of_frequencies(unseen), "aliasing_kernel": of_frequencies(kernel)}
