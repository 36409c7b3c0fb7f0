"""How large a part of K the offset takes away."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from qroar_core.figures.picture import Picture, framed, heatmap, map_height
from qroar_core.transforms.figure_rows import head_table
from qroar_core.transforms.result import ScalesFile


def by_layer_and_head(scales: ScalesFile) -> Picture | None:
    """The largest number that is taken off a channel, as a map, rows layer, columns KV head; None without an offset."""
    if scales.k_offset is None:
        return None
    largest = [[max(map(abs, channels)) for channels in heads] for heads in scales.k_offset]
    layers = [f"layer {scales.model.layer_number(i)}" for i in range(len(largest))]
    heads = [str(head) for head in range(len(largest[0]))]
    drawn = heatmap(largest, heads, layers, "of k", hover="%{y}, KV head %{x}: %{z:.3g}")
    figure = go.Figure(drawn)
    framed(figure, "KV head", "", height=map_height(len(layers)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    size = math.sqrt(float(np.mean(np.square(largest))))
    taken = sum(value > 0 for row in largest for value in row)
    return Picture(
        f"{taken} of {len(largest) * len(heads)} KV heads have a constant taken off K, of {size:.3g} in one channel",
        figure,
        head_table(layers, largest, "largest_of_k"),
        "A cell is the largest number that is taken off one channel of K, in the units of k before RoPE: 0 leaves the "
        "head alone. The title has the root mean square over heads.",
    )


FIGURE = by_layer_and_head
