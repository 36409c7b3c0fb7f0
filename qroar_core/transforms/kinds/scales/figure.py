"""The band scales g themselves: where the search moved range between q and k."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BAND_AXIS, Picture, framed, heatmap, map_height
from qroar_core.transforms.figure_rows import rows_of
from qroar_core.transforms.result import ScalesFile


def by_layer_and_band(scales: ScalesFile) -> Picture:
    """log2 g as a map, rows layer (and KV head), columns band."""
    table = table_of(scales)
    log2 = table.pivot(index="row", columns="band", values="log2_g").sort_index()
    names = table.drop_duplicates("row").set_index("row")["where"]
    rows = [names[i] for i in log2.index]
    columns = [f"{b}<br>{first}–{last}" for b, (first, last) in enumerate(scales.bands)]
    figure = go.Figure(heatmap(log2.values.tolist(), columns, rows, "log2 g", middle=0.0))
    framed(figure, BAND_AXIS, "", height=map_height(len(rows)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    changed = (table["log2_g"] != 0).any()
    what = "k divided, q multiplied" if scales.mode == "symmetric" else "q and k both multiplied"
    return Picture(
        "How far is each band scaled?" if changed else "Every scale is 1: the weights stay as they are",
        figure,
        table.drop(columns="row"),
        f"A cell is one band's scale g ({what} by g): 0 leaves the band alone, +1 doubles g, −1 halves it.",
    )


def table_of(scales: ScalesFile) -> pd.DataFrame:
    """One line per scale: row number, where, band, pairs, g, log2 g."""
    lines = []
    for row, (where, g) in enumerate(rows_of(scales, scales.g)):
        for band, value in enumerate(g):
            first, last = scales.bands[band]
            lines.append((row, where, band, f"{first}–{last}", value, math.log2(value)))
    return pd.DataFrame(lines, columns=["row", "where", "band", "pairs", "g", "log2_g"])


FIGURE = by_layer_and_band
