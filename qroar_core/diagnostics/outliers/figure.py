"""Channel maps: where outlier channels are, layer by layer and head by head."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.outliers.figure_channels import band_of_channel, channel_names, pair_of_channel, runs
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.tail_inflation.result import TENSORS
from qroar_core.figures.cache_by_result import once
from qroar_core.figures.heatmaps import Number, clickable, colour_axis, frame, pooled, pooled_edges, pooled_map
from qroar_core.figures.picture import POSITION_AXIS, Picture, bin_names, counted_on, framed, heatmap
from qroar_core.statistics.digits import HOVER, largest

PANELS, COLUMNS = 12, 6  # layers in one overview, and in a row of it
PANEL_CELLS = 32, 16  # channels x positions an overview panel is pooled to
TITLE_CELLS = 6  # empty rows that hold a panel's title
MAP_POSITIONS = 256  # position bins the large map is pooled to
NORMAL = (
    "The null: the same maximum, were the values of every head normal with its RMS, with the central 95 % in brackets "
    "(in the table for every layer). "
)
FOUR = "Files hold four significant digits of this map."
ENDS = {"": "median", "_low": "low", "_high": "high"}
LABEL_PIXELS = 13  # height a band's name needs beside the large map


def pages(diagnosis: Diagnosis) -> int:
    """How many overviews show all layers."""
    return -(-len(diagnosis.outliers.maps["k/post"]) // PANELS)


def page_label(diagnosis: Diagnosis, page: int) -> str:
    """The layers of one overview, by the numbers that the model gives them: `0–11`."""
    first, last = page * PANELS, min(len(diagnosis.outliers.maps["k/post"]), (page + 1) * PANELS) - 1
    return f"{diagnosis.layer_number(first)}–{diagnosis.layer_number(last)}"


def loudest_layer(diagnosis: Diagnosis, which: str) -> int:
    """The layer with the highest peak."""
    return int(peaks(diagnosis, which)["peak"].argmax())


def loudest_head(diagnosis: Diagnosis, which: str, layer: int) -> int:
    """The head with the highest peak of the layer."""
    return int(peaks(diagnosis, which)["head"][layer])


@once
def peaks(diagnosis: Diagnosis, which: str) -> pd.DataFrame:
    """The largest entry of every layer and where it is; one line a layer."""
    bins = bin_names(diagnosis.position_edges)
    outliers = diagnosis.outliers
    rows = [_peak(heads, diagnosis.layer_number(i), bins) for i, heads in enumerate(outliers.maps[which])]
    if which in outliers.peak_values:
        nulls = [outliers.peak_by_chance(which, [i]) for i in range(len(rows))]
        rows = [
            row | {f"null_peak{end}": getattr(null, name, None) for end, name in ENDS.items()}
            for row, null in zip(rows, nulls, strict=True)
        ]
    return pd.DataFrame(rows)


def layers(diagnosis: Diagnosis, which: str, page: int = 0, picked: int | None = None) -> Picture:
    """One small channel x position map a layer, of the head with the highest peak; panels can be clicked."""
    table, small = peaks(diagnosis, which), _panels(diagnosis, which, page)
    figure = _tiled(small, table, picked, diagnosis.outliers.head_word(which))
    figure.update_layout(coloraxis=colour_axis(list(small.values()), f"|{which[0]}|"))
    top, head = table.iloc[int(table["peak"].argmax())], diagnosis.outliers.head_word(which)
    first, last = (diagnosis.layer_number(edge) for edge in (min(small), max(small)))
    kind = " with attention" if diagnosis.decoder_layers else ""
    of = f" (layers {first}–{last} of {len(table)}{kind})" if len(table) > PANELS else ""
    return Picture(
        f"{TENSORS[which]} peaks at {largest(top['peak'])}: layer {top['layer']}, {head} {top['head']}, "
        f"channel {top['channel']}{_normal(diagnosis, which)}{of}",
        figure,
        table,
        "Each panel is one layer: channels from top to bottom, positions from left to right, brightest where |x| is "
        f"largest, of the {head} with the layer's highest peak. Click a panel to see it large. "
        + (NORMAL if "null_peak" in table else "")
        + f"{_below(diagnosis, which)} {FOUR}{diagnosis.outliers.pooled(which)}",
        sample=counted_on(diagnosis.outliers.sample, estimates=False),
    )


def _below(diagnosis: Diagnosis, which: str) -> str:
    """What the figures further down hold against nulls: in an older file less, or nothing."""
    found = diagnosis.outliers
    stand, same = which in found.count, which in found.jaccard_null
    if stand and same:
        return "Which channels stand out, and whether they are the same far out, is held against nulls below."
    if stand:
        return "Which channels stand out is held against nulls below."
    return "This file holds no null of which channels stand out."


@once
def _normal(diagnosis: Diagnosis, which: str) -> str:
    """The null of the highest peak of all layers, for a title; nothing in an older file."""
    chance = diagnosis.outliers.peak_by_chance(which, range(len(diagnosis.outliers.maps[which])))
    return "" if chance is None else f"; normal values of every head's RMS reach {chance}"


@once
def _panels(diagnosis: Diagnosis, which: str, page: int) -> dict[int, list[list[Number]]]:
    """Layer -> small map of its loudest head."""
    maps, heads = diagnosis.outliers.maps[which], peaks(diagnosis, which)["head"]
    shown = range(page * PANELS, min((page + 1) * PANELS, len(maps)))
    return {layer: pooled_map(maps[layer][heads[layer]], *PANEL_CELLS) for layer in shown}


def channel_map(diagnosis: Diagnosis, which: str, layer: int, head: int) -> Picture:
    """Largest |x| of every channel by position bin, with the band edges drawn. `which` such as "k/post"."""
    outliers = diagnosis.outliers
    z, word = outliers.maps[which][layer][head], outliers.head_word(which)
    bins = bin_names(pooled_edges(diagnosis.position_edges, MAP_POSITIONS))
    names = channel_names(diagnosis)
    hover = "%{y}<br>positions %{x}: |x| up to %{z:" + HOVER + "}"
    figure = go.Figure(heatmap([pooled(row, MAP_POSITIONS) for row in z], bins, names, "", hover=hover))
    height = min(900, max(520, 5 * len(z)))
    framed(figure, POSITION_AXIS, "channel of the head", height=height, legend=False)
    figure.update_traces(xgap=0, ygap=0, colorbar_title_text=f"|{which[0]}|", colorbar_x=1.09)
    figure.update_xaxes(type="category", nticks=8, tickangle=0)
    step = max(1, len(z) // 16)
    ticks = list(range(0, len(z), step))
    figure.update_yaxes(type="category", range=[len(z) - 0.5, -0.5], tickvals=ticks, ticktext=[str(t) for t in ticks])
    figure.update_layout(margin_r=90)
    _draw_bands(figure, diagnosis, (height - 72) / len(z))
    table = pd.DataFrame(z, columns=bin_names(diagnosis.position_edges))
    table.insert(0, "channel", range(len(z)))
    table.insert(1, "pair", pair_of_channel(diagnosis))
    table.insert(2, "band", band_of_channel(diagnosis))
    twice = (
        "every band appears twice, as channels i and i + r/2"
        if diagnosis.pairing == "half"
        else ("pairs are neighbours (2i, 2i + 1), so every band is one stretch")
    )
    null = outliers.peak_null.get(which)
    reach = ""
    if null:
        top = max((v for row in z for v in row if v is not None), default=0.0)
        reach = (
            f" The largest |x| is {largest(top)}; as many normal values of this head's RMS reach "
            f"{largest(null[layer][head] or 0.0)} (the null)."
        )
        every = outliers.peak_by_chance(which, range(len(null)))
        if every is not None and top >= outliers.largest_of(which):
            reach += f" No head has a larger value; in random data of the same size the largest would be {every}."
    return Picture(
        f"Which channels of {TENSORS[which]} stand out? (layer {diagnosis.layer_number(layer)}, {word} {head})",
        figure,
        table.astype({"pair": "Int64", "band": "Int64"}),
        "A bright row is a channel that stands out; a row that brightens to the right grows with position. "
        f"{_below(diagnosis, which)}{reach} Lines are band edges: {twice}. {FOUR}{outliers.pooled(which)}",
        sample=counted_on(outliers.sample, estimates=False),
    )


def _tiled(panels: dict[int, list[list[Number]]], table: pd.DataFrame, picked: int | None, head: str) -> go.Figure:
    """Layer -> map, laid out in rows as one heatmap with empty cells between."""
    tall, wide = (len(z := next(iter(panels.values()))), len(z[0]))
    columns = min(COLUMNS, len(panels))
    high, across = tall + TITLE_CELLS, wide + 1  # cells of a panel with its title and the space beside it
    rows = -(-len(panels) // columns)
    sheet: list[list[Number]] = [[None] * (columns * across - 1) for _ in range(rows * high)]
    titles, points, frames, hover = [], [], [], []
    for at, (layer, z) in enumerate(panels.items()):
        top, left = at // columns * high + TITLE_CELLS, at % columns * across
        for i, row in enumerate(z):
            sheet[top + i][left : left + wide] = row
        peak = table.iloc[layer]
        points.append((left + wide / 2 - 0.5, top + tall / 2 - 0.5))
        hover.append(
            f"layer {peak['layer']}, {head} {peak['head']}: {largest(peak['peak'])} in "
            f"channel {peak['channel']}, positions {peak['positions']}"
        )
        titles.append(
            {
                "text": f"layer {peak['layer']}, head {peak['head']}",
                "x": points[-1][0],
                "y": top - 0.5,
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12},
            }
        )
        if layer == picked:
            frames.append(frame(left - 0.5, top - 0.5, left + wide - 0.5, top + tall - 0.5))
    figure = go.Figure(go.Heatmap(z=sheet, coloraxis="coloraxis", hoverongaps=False))
    clickable(figure, [x for x, _ in points], [y for _, y in points], [[layer] for layer in panels], hover)
    framed(figure, "position within each panel →", "← channel", height=70 + 165 * rows, legend=False)
    bare = {"showticklabels": False, "showgrid": False, "ticks": ""}
    figure.update_layout(
        xaxis={**bare, "range": [-0.5, len(sheet[0]) - 0.5]},
        yaxis={**bare, "range": [len(sheet) - 0.5, -0.5]},
        annotations=titles,
        shapes=frames,
        margin={"t": 6, "l": 40, "b": 40},
    )
    return figure


def _peak(heads: list, layer: int, bins: list[str]) -> dict:
    """The largest entry of a layer and where it is."""
    best: tuple[float, int, int, int] = (0.0, 0, 0, 0)
    for head, channels in enumerate(heads):
        for channel, row in enumerate(channels):
            top = max(filter(None, row), default=0.0)  # over empty bins and zeros
            if top > best[0]:
                best = (top, head, channel, row.index(top))
    peak, head, channel, at = best
    return {"layer": layer, "head": head, "channel": channel, "positions": bins[at], "peak": peak}


def _draw_bands(figure: go.Figure, diagnosis: Diagnosis, pixels: float) -> None:
    """Edges between bands as lines, their names in the right margin; `pixels` is a channel's height."""
    free = 0.0  # pixels from the top where the next name may stand
    lines, names = [], []
    for run in runs(diagnosis):
        if run.first > 0:
            lines.append(
                {
                    "type": "line",
                    "xref": "paper",
                    "x0": 0,
                    "x1": 1,
                    "y0": run.first - 0.5,
                    "y1": run.first - 0.5,
                    "line": {"color": "#FFFFFF", "width": 1.5},
                }
            )
        middle = (run.first + run.last) / 2
        if middle * pixels >= free:
            names.append(
                {
                    "xref": "paper",
                    "x": 1.005,
                    "xanchor": "left",
                    "y": middle,
                    "showarrow": False,
                    "font": {"size": 11},
                    "text": "no rotation" if run.band is None else f"band {run.band}",
                }
            )
            free = middle * pixels + LABEL_PIXELS
    figure.update_layout(shapes=lines, annotations=names)


def _loudest(diagnosis: Diagnosis) -> list[Picture | None]:
    which, layer = "k/post", loudest_layer(diagnosis, "k/post")
    overview = [layers(diagnosis, which, page) for page in range(pages(diagnosis))]
    return [*overview, channel_map(diagnosis, which, layer, loudest_head(diagnosis, which, layer))]


FIGURES = {"outliers": _loudest}
