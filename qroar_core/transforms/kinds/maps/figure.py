"""How far the maps spread what lay in one channel over the channels that turn alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import Picture, framed, heatmap, map_height
from qroar_core.transforms.figure_rows import channels_reached, rows_of
from qroar_core.transforms.result import GroupMap, ScalesFile


def by_layer_and_group(scales: ScalesFile) -> Picture | None:
    """Channels over which one is spread, as a map, rows layer (and KV head), columns group; None without maps."""
    if not scales.maps:
        return None
    lines = [
        (row, where, words_of(one), one.size, channels_reached(np.array(matrix)))
        for one in scales.maps
        for row, (where, matrix) in enumerate(rows_of(scales, one.matrix))
    ]
    table = pd.DataFrame(lines, columns=["row", "where", "group", "channels", "spread_over"])
    columns = list(dict.fromkeys(table["group"]))
    values = table.pivot(index="row", columns="group", values="spread_over").sort_index()[columns]
    names = table.drop_duplicates("row").sort_values("row")["where"].tolist()
    drawn = heatmap(values.values.tolist(), columns, names, "channels", hover="%{y}, %{x}: over %{z:.1f} channels")
    figure = go.Figure(drawn)
    framed(figure, "channels that turn alike", "", height=map_height(len(names)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    widest = max(scales.maps, key=lambda one: one.size)
    mean = table.loc[table["group"] == words_of(widest), "spread_over"].mean()
    return Picture(
        f"In {words_of(widest)} the maps spread one channel over {mean:.1f} of {widest.size} on average",
        figure,
        table.drop(columns="row"),
        "A cell is the number of channels of K over which the map spreads one channel: 1 leaves it where it was, the "
        "number of the group's channels spreads it evenly. It is (sum of squares)^2 / (sum of fourth powers) of a "
        "column of the map, the mean over its columns.",
    )


def words_of(one: GroupMap) -> str:
    """`pairs 22–25`, `still pairs 26–31` or `unrotated channels`."""
    if one.rest:
        return "unrotated channels"
    return f"{'still ' if one.still else ''}pairs {one.first}–{one.last}"


FIGURE = by_layer_and_group
