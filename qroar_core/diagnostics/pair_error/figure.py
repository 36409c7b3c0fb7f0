"""Quantized pairs as complex numbers: is the damage length or angle, and in which band?"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import GREY, Picture, bin_names, colour_of, framed
from qroar_core.results import Diagnosis


def amplitude_and_phase(diagnosis: Diagnosis, tuned: Diagnosis | None = None) -> Picture | None:
    """Amplitude against phase error, one point a band; the tuned point joined to it. None when K is not quantized."""
    if diagnosis.pair_error is None:
        return None
    table = pd.concat([_table(d, name) for name, d in (("quantized", diagnosis), ("tuned", tuned))
                       if d is not None and d.pair_error is not None], ignore_index=True)  # fmt: skip
    mean = table.groupby(["model", "band"])[["phase_rad", "amplitude", "length_share"]].mean().astype(float)
    reach = 1.1 * float(mean[["phase_rad", "amplitude"]].max().max())
    figure = go.Figure()
    figure.add_scatter(x=[0, reach], y=[0, reach], mode="lines", name="as much length as angle", hoverinfo="skip",
                       line={"color": GREY, "dash": "dot"})  # fmt: skip
    names = list(mean.index.levels[0])
    for band in range(len(diagnosis.bands)):
        points = mean.loc[[(name, band) for name in names]]
        figure.add_scatter(
            x=points["phase_rad"], y=points["amplitude"], mode="lines+markers+text", showlegend=False,
            text=[str(band), *[""] * (len(names) - 1)], textposition="top right", customdata=names,
            line={"color": GREY, "width": 1},
            marker={"color": colour_of(band, len(diagnosis.bands)), "size": 13,
                    "symbol": ["circle", "diamond-open"][: len(names)], "line": {"width": 2}},
            hovertemplate=f"band {band}, %{{customdata}}<br>angle %{{x:.4g}} rad<br>length %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    framed(figure, "phase error: RMS of the angle, rad", "amplitude error: RMS of |ẑ|/|z| − 1", height=420)
    figure.update_xaxes(range=[0, reach])
    figure.update_yaxes(range=[0, reach])
    share = table.query("model == 'quantized'")["length_share"].astype(float).mean()
    also = " Filled: quantized; open: tuned; a line joins the two." if len(names) > 1 else ""
    return Picture(
        f"Is the damage length or angle? {share:.0%} of the error energy is length",
        figure,
        table,
        "Each quantized pair of K as a complex number against the exact one; one point a band (its number beside it), "
        f"mean over layers and positions. Above the dotted line length suffers more, below it angle.{also}",
    )


def _table(diagnosis: Diagnosis, name: str) -> pd.DataFrame:
    seen, bins = diagnosis.pair_error, bin_names(diagnosis.position_edges)
    assert seen is not None
    return pd.DataFrame(
        [
            {
                "model": name,
                "band": b,
                "positions": positions,
                "amplitude": seen.amplitude[b][i],
                "phase_rad": seen.phase[b][i],
                "length_share": seen.length_share[b][i],
            }
            for b in range(len(seen.amplitude))
            for i, positions in enumerate(bins)
        ]
    )
