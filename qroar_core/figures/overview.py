"""The small figures of the Overview page: what is lost, where it comes from, and what recovers it.

Each answers one question from a result that another page shows whole; its title is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.logit_noise import figure_words as words
from qroar_core.diagnostics.logit_noise.result import LogitNoise, rms
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.sample import which_errors
from qroar_core.evaluation.gap import remedy_share, tuned_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.figures.picture import BLUE, GREY, ORANGE, RED, Picture, framed
from qroar_core.remedies.result import Comparison
from qroar_core.result import Number
from qroar_core.specs.labels import CONDITION_WORDS
from qroar_core.statistics.intervals import paired_interval, shows_above_zero

HEIGHT = 150  # pixels: two rows of tiles fit one screen
MARGIN = {"l": 56, "r": 12, "t": 8, "b": 40}
MOST = 3  # remedies of a tile
NULL = "random errors of the same size"
OF_NOISE = "error, nats"
BAR = 0.22  # of a row; its name is above it


class Bar(NamedTuple):
    """One line of a figure of nats: a mean, and its interval."""

    name: str
    nats: float
    low: float
    high: float
    colour: str


def lost(evaluation: Evaluation) -> Picture | None:
    """What quantization costs at each length of an evaluation. None without window means, or nothing quantized."""
    bars, said = [], ""
    for length in sorted({row.length for row in evaluation.rows}):
        mine, reference = (_windows(evaluation, length, model) for model in ("quantized", "reference"))
        if mine and reference:
            cost = paired_interval(mine, reference)
            bars.append(Bar(f"{length:,} tokens", cost.mean, cost.low, cost.high, RED if cost.above_zero else GREY))
            ppl = [math.exp(math.fsum(nll) / len(nll)) for nll in (reference, mine)]
            costs = f"{cost.mean:+.4f} nats a token" if cost.excludes_zero else "Nothing significant"
            said = f"{costs} at {length:,} tokens: perplexity {ppl[0]:.3f} → {ppl[1]:.3f}"
    if not bars:
        return None
    return _nats(
        said,
        bars,
        "nats per token above the reference",
        "NLL of the quantized model minus the reference's, paired over held-out windows, with 95 % intervals; grey "
        "includes 0.",
    )


def _windows(evaluation: Evaluation, length: int, model: str) -> list[float]:
    """Mean NLL of each window without scales and, where pairs are tied, without the tie: as gains are counted."""
    known = evaluation.window_nll
    return known.get(f"{length}/{model}/untied") or known.get(f"{length}/{model}/identity") or []


def by_band(diagnosis: Diagnosis) -> Picture | None:
    """Each band's part of the logit error over all layers, beside its null. None where nothing is quantized."""
    noise = diagnosis.logit_noise
    if noise is None or not diagnosis.bands:
        return None
    names = [f"band {band.index}" for band in diagnosis.bands]
    measured = [rms([row[b] for row in noise.by_band]) for b in range(len(names))]
    null = [rms([row[b] for row in noise.null_by_band]) for b in range(len(names))] if noise.null_by_band else []
    spreads = words.band_spreads(noise)
    return _bars_beside_null(
        words.loudest(_cells(names, measured, null, spreads)),
        _Columns([str(band.index) for band in diagnosis.bands], "band, fast to slow", measured, null),
        noise,
    )


def by_layer(diagnosis: Diagnosis) -> Picture | None:
    """Each layer's logit error over the sampled rows, beside its null. None where nothing is quantized."""
    noise = diagnosis.logit_noise
    if noise is None:
        return None
    numbers = [str(diagnosis.layer_number(i)) for i in range(len(noise.by_layer))]
    measured = [rms(row) for row in noise.by_layer]
    null = [rms(row) for row in noise.null_by_layer]
    cells = _cells([f"layer {n}" for n in numbers], measured, null, words.layer_spreads(noise))
    return _bars_beside_null(
        words.loudest(cells, beside_it="random errors of its size"),
        _Columns(numbers, "layer", measured, null),
        noise,
    )


def by_position(diagnosis: Diagnosis) -> Picture | None:
    """The logit error by query position, beside its null. None where nothing is quantized."""
    noise = diagnosis.logit_noise
    if noise is None:
        return None
    figure = go.Figure()
    curves = [("quantized", noise.rms, ORANGE, "solid"), (NULL, noise.null.rms if noise.null else [], GREY, "dot")]
    table = pd.DataFrame({"position": noise.position})
    for name, values, colour, dash in curves:
        if values:
            table[name] = values
            figure.add_scatter(
                x=noise.position,
                y=values,
                name=name,
                mode="lines",
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate=f"{name}, position %{{x:,}}: %{{y:.4g}} nats<extra></extra>",
            )
    framed(figure, "query position, tokens", OF_NOISE, height=HEIGHT, log_x=True, legend=False)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(margin=MARGIN)
    return Picture(
        words.grown(noise).strip() or "This older result has no random errors to compare with",
        figure,
        table,
        f"RMS error of the logits at sampled query rows (errors {which_errors(noise.kind)}); dotted: {NULL}.",
    )


def recovered(comparison: Comparison) -> Picture | None:
    """The remedies of a comparison that recover most. None where the plain quantizer stands alone."""
    rows = [row for row in comparison.rows if row.gain is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: -(row.gain or 0.0))
    free = next((row for row in rows if row.free), None)
    shown = rows[:MOST] if free is None or free in rows[:MOST] else [*rows[: MOST - 1], free]
    bars = []
    for row in shown:
        colour = GREY if not shows_above_zero(row.gain_low or 0.0) else BLUE if row.free else ORANGE
        bars.append(Bar(row.name, row.gain or 0.0, row.gain_low or 0.0, row.gain_high or 0.0, colour))
    best = rows[0]
    share = remedy_share(comparison, best)
    if not shows_above_zero(best.gain_low or 0.0):
        said = "no remedy recovers anything significant"
    else:
        said = f"{best.name} recovers most: {share.words if share else f'{best.gain:+.4f} nats'}"
    left = f" The best of {len(rows)}, and the best that is free." if len(rows) > MOST else ""
    return _nats(
        f"{said[:1].upper()}{said[1:]}",
        bars,
        "nats per token recovered",
        f"At {comparison.length:,} tokens, paired over held-out windows; blue: free at run time, orange: the runtime "
        f"must do it, grey: not significant.{left}",
    )


def recovered_by_scales(evaluation: Evaluation) -> Picture | None:
    """What tuned scales, SmoothAttention and a rotation recover, from an evaluation. None where none was measured."""
    longest = max((row.length for row in evaluation.rows), default=0)
    plain = _windows(evaluation, longest, "quantized")
    bars = []
    for scales, free in (("tuned", True), ("smooth_attention", True), ("rotation", False), ("rotation_tuned", False)):
        mine = evaluation.window_nll.get(f"{longest}/quantized/{scales}")
        if plain and mine:
            won = paired_interval(plain, mine)
            colour = GREY if not won.above_zero else BLUE if free else ORANGE
            bars.append(Bar(CONDITION_WORDS[f"quantized/{scales}"], won.mean, won.low, won.high, colour))
    if not bars:
        return None
    share = tuned_share(evaluation)
    return _nats(
        "No scales are tuned yet" if share is None else f"The tuned scales recover: {share.words}",
        bars,
        "nats per token recovered",
        f"At {longest:,} tokens, paired over held-out windows; blue: free at run time, orange: the runtime must do it, "
        "grey: not significant.",
    )


class _Columns(NamedTuple):
    """What a figure of bars beside their nulls shows."""

    names: list[str]
    axis: str
    measured: list[Number]
    null: list[Number]


def _bars_beside_null(title: str, columns: _Columns, noise: LogitNoise) -> Picture:
    figure = go.Figure()
    kind, names = columns.axis.partition(",")[0], columns.names
    figure.add_bar(
        x=names,
        y=columns.measured,
        name="quantized",
        marker={"color": ORANGE},
        hovertemplate=f"{kind} %{{x}}: %{{y:.4g}} nats<extra></extra>",
    )
    table = pd.DataFrame({kind: names, "rms": columns.measured})
    if columns.null:
        table["null_rms"] = columns.null
        figure.add_scatter(
            x=names,
            y=columns.null,
            name=NULL,
            mode="markers",
            marker={"color": GREY, "symbol": "line-ew-open", "size": 14, "line": {"width": 3}},
            hovertemplate=f"{kind} %{{x}}, {NULL}: %{{y:.4g}} nats<extra></extra>",
        )
    framed(figure, columns.axis, OF_NOISE, height=HEIGHT, legend=False)
    figure.update_layout(margin=MARGIN)
    figure.update_xaxes(type="category")
    return Picture(
        title,
        figure,
        table,
        f"RMS error of the logits over the sampled query rows (errors {which_errors(noise.kind)}); dashes: {NULL}.",
    )


def _nats(title: str, bars: Sequence[Bar], axis: str, how_to_read: str) -> Picture:
    figure = go.Figure(
        go.Bar(
            x=[bar.nats for bar in bars],
            y=list(range(len(bars))),
            orientation="h",
            width=BAR,
            marker={"color": [bar.colour for bar in bars]},
            error_x={
                "type": "data",
                "symmetric": False,
                "thickness": 1.5,
                "width": 3,
                "color": GREY,
                "array": [bar.high - bar.nats for bar in bars],
                "arrayminus": [bar.nats - bar.low for bar in bars],
            },
            customdata=[(bar.low, bar.high, bar.name) for bar in bars],
            hovertemplate="%{customdata[2]}: %{x:+.4f} nats [%{customdata[0]:+.4f}, "
            "%{customdata[1]:+.4f}]<extra></extra>",
        )
    )
    framed(figure, axis, "", height=HEIGHT, legend=False)
    figure.update_layout(margin=MARGIN | {"l": 12})
    figure.update_yaxes(range=[len(bars) - 0.6, -0.9], showticklabels=False, showgrid=False)
    for i, bar in enumerate(bars):  # above its bar: beside it a long name would take the room of the bars
        where = {"x": 0, "xref": "paper", "y": i - BAR / 2, "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(text=bar.name, showarrow=False, font={"size": 12}, borderpad=0, **where)
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    table = pd.DataFrame([bar[:4] for bar in bars], columns=["condition", "nats_per_token", "ci_low", "ci_high"])
    return Picture(title, figure, table, how_to_read)


def _cells(names: Sequence[str], measured: list[Number], null: list[Number], spreads: list[Number]) -> list[words.Cell]:
    return [
        (name, measured[i], null[i] if null else None, spreads[i] if i < len(spreads) else None)
        for i, name in enumerate(names)
    ]
