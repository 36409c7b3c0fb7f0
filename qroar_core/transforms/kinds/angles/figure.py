"""The angles by which RoPE pairs are turned: how far the quantizer's axes lie from where the model put them."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import Picture, framed, heatmap, map_height
from qroar_core.transforms.figure_rows import rows_of
from qroar_core.transforms.result import ScalesFile


def by_layer_and_pair(scales: ScalesFile) -> Picture | None:
    """Degrees as a map, rows layer (and KV head), columns pair; None where no pair is turned."""
    if scales.angles is None:
        return None
    lines = [
        (row, where, pair, within_quarter(math.degrees(angle)))
        for row, (where, angles) in enumerate(rows_of(scales, scales.angles))
        for pair, angle in enumerate(angles)
    ]
    table = pd.DataFrame(lines, columns=["row", "where", "pair", "degrees"])
    values = table.pivot(index="row", columns="pair", values="degrees").sort_index()
    names = table.drop_duplicates("row")["where"].tolist()
    figure = go.Figure(
        heatmap(
            values.values.tolist(),
            [str(p) for p in values.columns],
            names,
            "degrees",
            middle=0.0,
            hover="%{y}, pair %{x}: %{z:.1f}",
        )
    )
    framed(figure, "RoPE pair, fast to slow", "", height=map_height(len(names)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    share = float((table["degrees"].abs() > 15).mean())
    return Picture(
        f"{share:.0%} of the pairs lie more than 15 degrees off the axes they had",
        figure,
        table.drop(columns="row"),
        "A cell is the angle by which one pair of q and k is turned before RoPE, counted from the nearest axis: "
        "0 leaves it, 45 puts what lay on one axis evenly on both, which shrinks the range that all channels share.",
    )


def within_quarter(degrees: float) -> float:
    """The angle from the nearest axis, -45 to 45: a quarter turn only renames axes and flips a sign."""
    return (degrees + 45) % 90 - 45


FIGURE = by_layer_and_pair
