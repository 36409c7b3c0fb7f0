"""Runs side by side: what each gained on held-out text, and how far each scales its bands."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pandas as pd
import plotly.graph_objects as go

from qroar_core.escape import figure_text
from qroar_core.evaluation.gap import tuned_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.figures.picture import BLUE, COLOURS, GREY, Picture, framed
from qroar_core.transforms.kinds.scales.figure import table_of
from qroar_core.transforms.result import ScalesFile

MOST = len(COLOURS)  # runs in one picture; more have no colour of their own
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")


def gains(runs: Sequence[tuple[str, Evaluation]]) -> Picture | None:
    """The paired gain of every run with its interval, best first. None when no run has one."""
    lines = []
    for name, evaluation in runs:
        gain, share = evaluation.gain, tuned_share(evaluation)
        if gain is not None:
            lines.append(
                (
                    name,
                    gain.delta_nll,
                    gain.ci_low,
                    gain.ci_high,
                    gain.significant and not evaluation.caveat,
                    gain.length,
                    gain.windows,
                    evaluation.gap_recovered,
                    share and share.low,
                    share and share.high,
                )
            )
    if not lines:
        return None
    columns = [
        "run",
        "gain_nats",
        "ci_low",
        "ci_high",
        "significant",
        "length",
        "windows",
        "gap_recovered",
        "gap_low",
        "gap_high",
    ]
    table = pd.DataFrame(lines, columns=columns).sort_values("gain_nats", ascending=False, ignore_index=True)
    figure = go.Figure(
        go.Scatter(
            x=table["gain_nats"],
            y=table["run"].map(figure_text),
            mode="markers",
            marker={
                "size": 11,
                "color": [BLUE if yes else GREY for yes in table["significant"]],
                "symbol": ["circle" if yes else "circle-open" for yes in table["significant"]],
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "thickness": 1.5,
                "width": 6,
                "color": GREY,
                "array": table["ci_high"] - table["gain_nats"],
                "arrayminus": table["gain_nats"] - table["ci_low"],
            },
            customdata=table[["ci_low", "ci_high", "length"]],
            hovertemplate="%{y}: %{x:+.4f} nats [%{customdata[0]:+.4f}, %{customdata[1]:+.4f}] at %{customdata[2]} "
            "tokens<extra></extra>",
        )
    )
    framed(
        figure,
        "gain under quantization, nats per token (right of 0 is better)",
        "",
        height=120 + 40 * len(table),
        legend=False,
    )
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    proven = table[table["significant"]]
    title = f"{proven['run'][proven.index[0]]} gains most" if len(proven) else "No run's gain is significant"
    return Picture(
        title,
        figure,
        table,
        "One row a run: its gain on held-out text with the interval, filled where the gain is significant over "
        "windows and over documents. Gains of different lengths or texts cannot be compared.",
    )


def scales(runs: Sequence[tuple[str, ScalesFile]]) -> Picture | None:
    """log2 g over the pairs, a line a run: the mean over layers and KV heads, with their range as bars."""
    lines = []
    for name, file in runs:
        frame = table_of(file)
        for band, (first, last) in enumerate(file.bands):
            values = frame.loc[frame["band"] == band, "log2_g"].tolist()
            lines.append((name, band, first, last, (first + last) / 2, fmean(values), min(values), max(values)))
    if not lines:
        return None
    columns = ["run", "band", "first_pair", "last_pair", "pair", "mean_log2_g", "least", "most"]
    table = pd.DataFrame(lines, columns=columns)
    figure = go.Figure()
    groups = list(table.groupby("run", sort=False))
    for i, (name, group) in enumerate(groups):
        width = (group["last_pair"] - group["first_pair"] + 1).min()
        aside = 0.6 * width * ((i + 0.5) / len(groups) - 0.5)  # side by side, so that no bar hides another
        figure.add_scatter(
            x=group["pair"] + aside,
            y=group["mean_log2_g"],
            mode="lines+markers",
            name=figure_text(name),
            line={"color": COLOURS[i % MOST], "width": 1.5},
            marker={"symbol": SYMBOLS[i % MOST], "size": 9},
            error_y={
                "type": "data",
                "symmetric": False,
                "thickness": 1,
                "width": 4,
                "array": group["most"] - group["mean_log2_g"],
                "arrayminus": group["mean_log2_g"] - group["least"],
            },
            customdata=group[["band", "first_pair", "last_pair", "least", "most"]],
            hovertemplate=f"{figure_text(name)}, band %{{customdata[0]}} (pairs %{{customdata[1]}}–"
            "%{customdata[2]}): mean %{y:+.3f}, from %{customdata[3]:+.3f} to %{customdata[4]:+.3f}<extra></extra>",
        )
    framed(figure, "RoPE pair (fast to slow)", "log2 g", height=420)
    figure.update_layout(margin={"t": 70}, hovermode="closest")
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    return Picture(
        "Do the runs scale the same bands?",
        figure,
        table.drop(columns="pair"),
        "A point is a band's scale, mean over layers and KV heads, at the middle of its pairs; bars reach from the "
        "least to the greatest. 0 leaves the band alone, +1 doubles g.",
    )
