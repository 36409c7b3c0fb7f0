"""Dynamic range by position: what a uniform quantizer loses when range grows with the context."""

from __future__ import annotations

import pandas as pd

from qroar_core.figures.maps import Panel, side_by_side
from qroar_core.figures.picture import POSITION_AXIS, Picture, bin_names
from qroar_core.results import Diagnosis


def by_position(diagnosis: Diagnosis, layer: int) -> Picture:
    """K's largest absolute value after RoPE, band by position bin, in one layer; bits lost in the hover."""
    seen = diagnosis.dilation
    bins = bin_names(diagnosis.position_edges)
    rows = [f"band {b.index}" for b in diagnosis.bands]
    panel = Panel("", seen.absmax[layer], bins, POSITION_AXIS, "positions")
    figure = side_by_side([panel], rows, "|k|")
    figure.update_traces(customdata=seen.bits_lost[layer],
                         hovertemplate="%{hovertext}<br>%{customdata:+.2f} bits lost<extra></extra>")  # fmt: skip
    table = pd.DataFrame(
        [
            {
                "layer": diagnosis.layer_number(layer),
                "band": b.index,
                "positions": name,
                "absmax": seen.absmax[layer][b.index][i],
                "rms": seen.rms[layer][b.index][i],
                "bits_lost": seen.bits_lost[layer][b.index][i],
            }
            | {f"quantile_{q}": values[layer][b.index][i] for q, values in seen.quantiles.items()}
            for b in diagnosis.bands
            for i, name in enumerate(bins)
        ]
    )
    worst = table["bits_lost"].astype(float).max()
    lost = "" if pd.isna(worst) else f", up to {worst:.2f} bits lost"
    return Picture(
        f"How far do keys reach by position? (layer {diagnosis.layer_number(layer)}{lost})",
        figure,
        table,
        "Largest |k| after RoPE over the layer's KV heads. Bits lost: log2 of that range over the short one's, what "
        "a uniform quantizer with one step for all positions gives away.",
    )
