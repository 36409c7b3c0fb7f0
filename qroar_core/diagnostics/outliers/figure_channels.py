"""Which RoPE pair and band a channel belongs to, read from a result alone.

`half` pairs channels (i, i + r/2), so every band appears twice along the head; `interleaved` pairs (2i, 2i + 1),
so every band appears once; channels from rotary_dim on turn with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.outliers.result_chance import largest_even
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.heatmaps import Panel, column_at, side_by_side
from qroar_core.result import LayerBand, PerBand


@dataclass(frozen=True, slots=True)
class ChannelRange:
    """A stretch of neighbouring channels of one band, both ends included; band None: no rotation."""

    first: int
    last: int
    band: int | None


def pair_of_channel(diagnosis: Diagnosis) -> list[int | None]:
    """RoPE pair of each channel of a head, None without rotation."""
    half = diagnosis.rotary_dim // 2
    turning = range(diagnosis.rotary_dim)
    pairs = [c % half if diagnosis.pairing == "half" else c // 2 for c in turning]
    return [*pairs, *[None] * (diagnosis.head_dim - diagnosis.rotary_dim)]


def band_of_channel(diagnosis: Diagnosis) -> list[int | None]:
    """Band of each channel of a head, None without rotation."""
    band_of_pair = {p: b.index for b in diagnosis.bands for p in range(b.first_pair, b.last_pair + 1)}
    return [None if pair is None else band_of_pair[pair] for pair in pair_of_channel(diagnosis)]


def runs(diagnosis: Diagnosis) -> list[ChannelRange]:
    """The bands along the channel axis, in order; together they cover it."""
    bands = band_of_channel(diagnosis)
    starts = [c for c, band in enumerate(bands) if c == 0 or band != bands[c - 1] or _seam(diagnosis, c)]
    return [ChannelRange(a, b - 1, bands[a]) for a, b in zip(starts, [*starts[1:], len(bands)])]


def channel_names(diagnosis: Diagnosis) -> list[str]:
    """`channel 5: pair 5, band 1`, for hovering."""
    pairs, bands = pair_of_channel(diagnosis), band_of_channel(diagnosis)
    return [
        f"channel {c}: no rotation" if pair is None else f"channel {c}: pair {pair}, band {band}"
        for c, (pair, band) in enumerate(zip(pairs, bands))
    ]


def draw_edges(figure: go.Figure, diagnosis: Diagnosis, panels: int) -> None:
    """Edges between bands as vertical lines through maps whose columns are channels."""
    figure.update_layout(
        shapes=[
            {
                "type": "line",
                "x0": x,
                "x1": x,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": "#FFFFFF", "width": 1},
            }
            for panel in range(panels)
            for run in runs(diagnosis)
            if run.first > 0
            for x in [column_at(panel, run.first - 0.5, diagnosis.head_dim)]
        ]
    )


def even_shares(
    diagnosis: Diagnosis, shares: Mapping[str, LayerBand], named: Callable[[str], str], axis: str
) -> tuple[go.Figure, dict[str, float]]:
    """Shares by layer and channel, each over an even share, side by side; and the largest of each map.

    Args:
        shares: quantizer -> [layer][channel]. named: the title of its panel. axis: what the channels are.
    """
    even = {name: [[None if v is None else v * len(row) for v in row] for row in z] for name, z in shares.items()}
    columns = [str(c) for c in range(diagnosis.head_dim)]
    figure = side_by_side(
        [Panel(named(name), z, columns, axis, "channel") for name, z in even.items()],
        diagnosis.layer_names(),
        "times an even share",
    )
    draw_edges(figure, diagnosis, len(even))
    return figure, {name: max((v or 0.0 for row in z for v in row), default=0.0) for name, z in even.items()}


def by_chance(diagnosis: Diagnosis, spreads: Mapping[str, PerBand], name: str) -> str:
    """How far the largest channel of all layers reaches by chance, for a title; nothing in an older file."""
    chance = largest_even([v for v in spreads.get(name, []) if v is not None], diagnosis.head_dim)
    return "" if chance is None else f" ({chance} by chance)"


def channel_table(diagnosis: Diagnosis, shares: Mapping[str, LayerBand]) -> pd.DataFrame:
    """One line a layer and channel, with the share of each quantizer."""
    bands = band_of_channel(diagnosis)
    return pd.DataFrame(
        [
            dict[str, float | None](layer=diagnosis.layer_number(i), channel=c, band=bands[c])
            | {f"{name.replace(' ', '_')}_error": z[i][c] for name, z in shares.items()}
            for i in range(len(next(iter(shares.values()))))
            for c in range(diagnosis.head_dim)
        ]
    ).astype({"band": "Int64"})


def _seam(diagnosis: Diagnosis, channel: int) -> bool:
    """Where the second halves of the pairs begin: one band alone would hide it."""
    return diagnosis.pairing == "half" and channel == diagnosis.rotary_dim // 2
