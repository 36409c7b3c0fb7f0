"""How far the polish changes the channels of tied pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import Picture, framed, heatmap, map_height
from qroar_core.transforms.result import PolishedGroup, ScalesFile


def by_layer_and_group(scales: ScalesFile) -> Picture | None:
    """Size of P - 1 beside that of 1, as a map, rows layer, columns q and k of each group; None without a polish."""
    if not scales.polish:
        return None
    layers = [f"layer {scales.model.layer_number(i)}" for i in range(scales.model.layers)]
    columns = {
        f"{side} of {words_of(one)}": _change(np.array(getattr(one, side))) for one in scales.polish for side in "qk"
    }
    table = pd.DataFrame(columns, index=layers)
    figure = go.Figure(
        heatmap(table.values.tolist(), list(columns), layers, "change", hover="%{y}, %{x}: %{z:.3g} of its size")
    )
    framed(figure, "tied pairs", "", height=map_height(len(layers)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    return Picture(
        f"The polish changes q and k of tied pairs by {float(table.values.mean()):.1%} on average",
        figure,
        table.rename_axis("layer").reset_index(),
        "A cell is the size of P - 1 beside that of 1 (Frobenius norms), the root mean square over heads: 0 leaves the "
        "channels as they are. It is a change of the model, towards the one without the tie, and no exact transform.",
    )


def words_of(one: PolishedGroup) -> str:
    """`pairs 22–25` or `still pairs 26–31`."""
    return f"{'still ' if one.still else ''}pairs {one.first}–{one.last}"


def _change(matrices: np.ndarray) -> np.ndarray:
    """(layers, heads, size, size) -> (layers,)."""
    size = matrices.shape[-1]
    return np.sqrt(((matrices - np.eye(size)) ** 2).sum((-1, -2)).mean(-1) / size)


FIGURE = by_layer_and_group
