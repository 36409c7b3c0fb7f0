"""Outlier channels: where they are, and whether they are still there far out."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import (
    BAND_AXIS,
    POSITION_AXIS,
    Picture,
    band_names,
    bin_names,
    framed,
    heatmap,
    map_height,
)
from qroar_core.results import Diagnosis


def channel_map(diagnosis: Diagnosis, which: str, layer: int, head: int) -> Picture:
    """Largest |x| of every channel by position bin. `which` is a key of the maps, such as "k/post"."""
    z = diagnosis.outliers.maps[which][layer][head]
    bins = bin_names(diagnosis.position_edges)
    figure = go.Figure(heatmap(z, bins, [str(c) for c in range(len(z))], "|x|"))
    framed(figure, POSITION_AXIS, "channel of the head", height=560, legend=False)
    figure.update_traces(ygap=0)
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed")
    table = pd.DataFrame(z, columns=bins)
    table.insert(0, "channel", range(len(z)))
    return Picture(
        f"Which channels of {_words(which)} stand out? (layer {layer}, KV head {head})",
        figure,
        table,
        "A bright row is an outlier channel; a row that brightens to the right is one that grows with position.",
    )


def shift(diagnosis: Diagnosis, which: str) -> Picture:
    """Jaccard index of the outlier sets at short and at long positions, layer by KV head."""
    z = diagnosis.outliers.jaccard[which]
    moved = diagnosis.outliers.mass_moved[which]
    rows = [f"layer {i}" for i in range(len(z))]
    columns = [str(h) for h in range(max(map(len, z)))]
    figure = go.Figure(heatmap(z, columns, rows, "Jaccard"))
    framed(figure, "KV head", "", height=map_height(len(rows)), legend=False)
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    table = pd.DataFrame(
        [
            {"layer": i, "kv_head": h, "jaccard": value, "mass_moved": moved[i][h]}
            for i, row in enumerate(z)
            for h, value in enumerate(row)
        ]
    )
    return Picture(
        f"Do the outlier channels of {_words(which)} stay the same from short to long positions?",
        figure,
        table,
        f"1: the same channels stand out near and far; 0: none of them does (rule: {diagnosis.outliers.rule}).",
    )


def error_share(diagnosis: Diagnosis, bits: str) -> Picture:
    """Share of each band's quantization error that outlier entries carry. `bits` is "int4" or "int8"."""
    z = diagnosis.outliers.error_share[bits]
    rows = [f"layer {i}" for i in range(len(z))]
    figure = go.Figure(heatmap(z, band_names(diagnosis.bands), rows, "share"))
    framed(figure, BAND_AXIS, "", height=map_height(len(rows)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    table = pd.DataFrame(
        [
            {"layer": i, "band": b, "error_share": value, "entry_share": diagnosis.outliers.entry_share[i][b]}
            for i, row in enumerate(z)
            for b, value in enumerate(row)
        ]
    )
    return Picture(
        f"How much of each band's {bits} error do outliers carry?",
        figure,
        table,
        "Share of the squared error of K that falls on outlier entries; compare with the share of entries they are.",
    )


def _words(which: str) -> str:
    tensor, side = which.split("/")
    return f"{tensor} {'after' if side == 'post' else 'before'} RoPE"
