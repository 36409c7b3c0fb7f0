"""Logit noise: what quantization does to the attention logits, by position, distance, layer and band."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.figures.picture import (
    BAND_AXIS,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    POSITION_AXIS,
    Picture,
    band_names,
    bin_names,
    framed,
    heatmap,
    map_height,
)
from qroar_core.results import Diagnosis


def by_position(diagnosis: Diagnosis) -> Picture | None:
    """RMS of the logit error and KL of the attention rows by query position. None when nothing is quantized."""
    seen = diagnosis.logit_noise
    if seen is None:
        return None
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    figure.add_scatter(x=seen.position, y=seen.rms, mode="lines+markers", name="logit noise", line={"color": BLUE},
                       hovertemplate="position %{x}: %{y:.4g} nats<extra></extra>", row=1, col=1)  # fmt: skip
    figure.add_scatter(x=seen.position, y=seen.attention_kl, mode="lines+markers", name="attention KL",
                       line={"color": ORANGE}, hovertemplate="position %{x}: %{y:.4g} nats<extra></extra>",
                       row=1, col=2)  # fmt: skip
    framed(figure, "query position, tokens", "", log_x=True)
    figure.update_yaxes(title_text="RMS logit error, nats", row=1, col=1)
    figure.update_yaxes(title_text="KL of the attention row, nats", row=1, col=2)
    table = pd.DataFrame({"position": seen.position, "rms": seen.rms, "attention_kl": seen.attention_kl})
    return Picture(
        "Does the noise on the logits grow with position?",
        figure,
        table,
        f"Quantized minus reference at sampled query rows, mean over layers ({seen.kind}). A rising line is damage "
        "that comes with length.",
    )


def by_distance(diagnosis: Diagnosis) -> Picture | None:
    """RMS of the logit error by distance between query and key."""
    seen = diagnosis.logit_noise
    if seen is None:
        return None
    figure = go.Figure(
        go.Scatter(
            x=seen.distance,
            y=seen.rms_by_distance,
            mode="lines+markers",
            line={"color": BLUE},
            hovertemplate="distance %{x}: %{y:.4g} nats<extra></extra>",
        )
    )
    framed(figure, "distance from query to key, tokens", "RMS logit error, nats", legend=False, log_x=True)
    return Picture(
        "Are far keys noisier than near ones?",
        figure,
        pd.DataFrame({"distance": seen.distance, "rms": seen.rms_by_distance}),
        "The same error by how far back the key stands.",
    )


def by_layer_and_band(diagnosis: Diagnosis) -> Picture | None:
    """RMS of each band's part of the logit error."""
    seen = diagnosis.logit_noise
    if seen is None:
        return None
    rows = [f"layer {i}" for i in range(len(seen.by_band))]
    figure = go.Figure(heatmap(seen.by_band, band_names(diagnosis.bands), rows, "nats"))
    framed(figure, BAND_AXIS, "", height=map_height(len(rows)), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    table = pd.DataFrame(
        [{"layer": i, "band": b, "rms": v} for i, row in enumerate(seen.by_band) for b, v in enumerate(row)]
    )
    known = [(v, i, b) for i, row in enumerate(seen.by_band) for b, v in enumerate(row) if v is not None]
    _, layer, band = max(known, default=(0.0, 0, 0))
    return Picture(
        f"Which band makes the noise? Most in layer {layer}, band {band}",
        figure,
        table,
        "Each cell is the RMS of that band's share of the logit error: the cells that rescaling has most to win in.",
    )


def pair_error(diagnosis: Diagnosis) -> Picture | None:
    """Length error against angle error of the quantized pairs, by band."""
    seen = diagnosis.pair_error
    if seen is None:
        return None
    bins = bin_names(diagnosis.position_edges)
    table = pd.DataFrame(
        [
            {
                "band": b,
                "positions": name,
                "amplitude": seen.amplitude[b][i],
                "phase_rad": seen.phase[b][i],
                "length_share": seen.length_share[b][i],
            }
            for b in range(len(seen.amplitude))
            for i, name in enumerate(bins)
        ]
    )
    mean = table.groupby("band")[["amplitude", "phase_rad"]].mean()
    figure = go.Figure()
    for column, name, colour in (
        ("amplitude", "length: RMS of |ẑ|/|z| − 1", GREEN),
        ("phase_rad", "angle: RMS of arg, rad", PINK),
    ):
        figure.add_bar(x=band_names(diagnosis.bands), y=mean[column], name=name, marker={"color": colour},
                       hovertemplate=f"band %{{x}}: %{{y:.4f}}<extra>{name}</extra>")  # fmt: skip
    framed(figure, BAND_AXIS, "relative length error, or rad")
    share = table["length_share"].astype(float).mean()
    return Picture(
        f"Is the damage length or angle? {share:.0%} of the error energy is length",
        figure,
        table,
        "Each quantized pair of K as a complex number against the exact one, mean over layers and positions.",
    )


def hidden_states(diagnosis: Diagnosis) -> Picture | None:
    """SQNR of each layer's output by position."""
    seen = diagnosis.hidden
    if seen is None:
        return None
    bins = bin_names(diagnosis.position_edges)
    rows = [f"layer {i}" for i in range(len(seen.sqnr_db))]
    figure = go.Figure(heatmap(seen.sqnr_db, bins, rows, "dB"))
    framed(figure, POSITION_AXIS, "", height=map_height(len(rows)), legend=False)
    figure.update_xaxes(type="category")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    table = pd.DataFrame(
        [
            {"layer": i, "positions": bins[j], "sqnr_db": value, "cosine": seen.cosine[i][j]}
            for i, row in enumerate(seen.sqnr_db)
            for j, value in enumerate(row)
        ]
    )
    return Picture(
        "How far do the hidden states drift from the reference?",
        figure,
        table,
        "Signal over difference of each layer's output, in dB: 20 dB is a difference of a tenth, higher is better.",
    )
