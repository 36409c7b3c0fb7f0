"""How far the value maps spread what lay in one channel of V over the channels of its head."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from qroar_core.figures.picture import Picture, framed, heatmap, map_height
from qroar_core.transforms.figure_rows import channels_reached, head_table
from qroar_core.transforms.result import ScalesFile


def by_layer_and_head(scales: ScalesFile) -> Picture | None:
    """Channels over which one of V is spread, as a map, rows layer, columns KV head; None without value maps."""
    if scales.value_maps is None:
        return None
    reached = [[channels_reached(np.array(matrix)) for matrix in heads] for heads in scales.value_maps]
    size, layers = len(scales.value_maps[0][0]), [f"layer {scales.model.layer_number(i)}" for i in range(len(reached))]
    heads = [str(head) for head in range(len(reached[0]))]
    drawn = heatmap(reached, heads, layers, "channels", hover="%{y}, KV head %{x}: over %{z:.1f} channels")
    figure = go.Figure(drawn)
    framed(figure, "KV head", "", height=map_height(len(layers)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    mean = float(np.mean(reached))
    return Picture(
        f"The value maps spread one channel of V over {mean:.1f} of {size} on average",
        figure,
        head_table(layers, reached, "spread_over"),
        "A cell is the number of channels of V over which the map spreads one channel: 1 leaves it where it was, the "
        "number of V's channels spreads it evenly. It is (sum of squares)^2 / (sum of fourth powers) of a column of "
        "the map, the mean over its columns.",
    )


FIGURE = by_layer_and_head
