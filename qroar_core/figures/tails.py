"""Tail inflation: do q and k reach further at long context than at short, band by band?"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BAND_AXIS, Picture, band_names, framed, heatmap, map_height
from qroar_core.results import Diagnosis

TENSORS = {"k": "Keys", "q": "Queries"}
SIDES = {"post": "after RoPE", "pre": "before RoPE"}


def by_layer_and_band(diagnosis: Diagnosis, tensor: str = "k", side: str = "post") -> Picture:
    """Ratio of the 1 - eps quantiles, long over short, largest over KV heads."""
    ratio = diagnosis.tail_inflation[side][tensor]
    rows = [f"layer {i}" for i in range(len(ratio))]
    figure = go.Figure(heatmap(ratio, band_names(diagnosis.bands), rows, "× short", middle=1.0))
    framed(figure, BAND_AXIS, "", height=map_height(len(rows)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    known = [(v, i, b) for i, row in enumerate(ratio) for b, v in enumerate(row) if v is not None]
    worst, layer, band = max(known, default=(1.0, 0, 0))
    return Picture(
        f"{TENSORS[tensor]} {SIDES[side]}: tails reach up to {worst:.2f} × as far as at short context "
        f"(layer {layer}, band {band})",
        figure,
        table(diagnosis, tensor, side),
        f"Quantile {1 - diagnosis.eps:g} of |x| at {diagnosis.length} tokens over the same at {diagnosis.short_length}."
        " Above 1 the band needs more range at long context, and every channel that shares its scale pays.",
    )


def table(diagnosis: Diagnosis, tensor: str, side: str) -> pd.DataFrame:
    """Every layer, KV head and band with its bootstrap interval and both quantiles."""
    seen = diagnosis.tails[f"{tensor}/{side}"]
    return pd.DataFrame(
        [
            {
                "layer": layer,
                "kv_head": head,
                "band": band,
                "ratio": ratio,
                "low": seen.low[layer][head][band],
                "high": seen.high[layer][head][band],
                "long": seen.long[layer][head][band],
                "short": seen.short[layer][head][band],
                "over_native_rope": seen.native[layer][head][band] if seen.native else None,
            }
            for layer, heads in enumerate(seen.ratio)
            for head, bands in enumerate(heads)
            for band, ratio in enumerate(bands)
        ]
    )
