"""Remedies side by side: what each recovers, and what band scales add on top of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from qroar_core.evaluation.figure import won_back
from qroar_core.evaluation.gap import remedy_share
from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Picture, framed
from qroar_core.remedies.result import Comparison, RemedyRow
from qroar_core.statistics.intervals import shows_above_zero

REMEDY_STYLES = {  # (free of run-time cost, what is on top): name, colour, marker
    (True, ""): ("free at run time", BLUE, "circle"),
    (True, "band scales"): ("free, with band scales", GREEN, "diamond"),
    (True, "band scales and angles"): ("free, with band scales and angles", SKY, "star"),
    (False, ""): ("the runtime must do it", ORANGE, "circle"),
    (False, "band scales"): ("the runtime must do it, with band scales", RED, "diamond"),
    (False, "band scales and angles"): ("the runtime must do it, with band scales and angles", PINK, "star"),
}
ROW = 34  # pixels


def table(comparison: Comparison) -> pd.DataFrame:
    """One row a remedy; the plain quantizer has no gain over itself."""
    return pd.DataFrame([_line(comparison, row) for row in comparison.rows])


def _line(comparison: Comparison, row: RemedyRow) -> dict:
    share = remedy_share(comparison, row)
    return {
        "remedy": row.name,
        "acts on": row.about.group,
        "ppl": row.ppl,
        "nll": row.nll,
        "nll_se": row.nll_se,
        "gap_recovered": row.gap_recovered,
        "gap_low": share and share.low,
        "gap_high": share and share.high,
        "gain_nats": row.gain,
        "gain_low": row.gain_low,
        "gain_high": row.gain_high,
        "band_scales_add": row.added,
        "added_low": row.added_low,
        "added_high": row.added_high,
        "at run time": row.run_time,
        "change in the runtime": row.runtime_change,
        "tie_costs": row.tie_cost,
        "tie_cost_low": row.tie_cost_low,
        "tie_cost_high": row.tie_cost_high,
        "chosen": row.note,
        "calibrated on": row.calibration,
        "source": row.about.source,
        "band scales": row.no_op,
    }


def gains(comparison: Comparison) -> Picture | None:
    """NLL that each remedy recovers of the plain quantizer, best first. None where plain stands alone."""
    rows = sorted((row for row in comparison.rows if row.gain is not None), key=lambda row: -(row.gain or 0.0))
    if not rows:
        return None
    figure = go.Figure()
    order = [row.name for row in rows]
    for look, (name, colour, symbol) in REMEDY_STYLES.items():
        mine = [row for row in rows if (row.free, row.top) == look]
        if mine:
            figure.add_scatter(**_points(comparison, mine, colour, symbol), name=name)
    framed(figure, "nats per token recovered (right of 0 is better)", "", height=150 + ROW * len(rows))
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], automargin=True)
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    if shows_above_zero(comparison.gap_low):
        figure.add_vline(
            x=comparison.gap,
            line={"color": GREY, "width": 1, "dash": "dash"},
            name="all of it",
            showlegend=True,  # words at the line would lie on the interval of the best remedy
        )
    percent = round(100 * comparison.confidence)
    return Picture(
        "Which remedy recovers most of what quantization costs?",
        figure,
        table(comparison),
        f"NLL of the quantizer without remedy minus that with it, at {comparison.length} tokens, paired over windows; "
        f"bars are {percent} % intervals; one that touches 0 is no significant difference. The dashed line is the "
        "whole cost of quantization. Intervals are not corrected for their number: of twenty, one misses by chance.",
    )


def _points(comparison: Comparison, rows: Sequence[RemedyRow], colour: str, symbol: str) -> dict:
    bars = [(row.gain or 0.0, row.gain_low or 0.0, row.gain_high or 0.0) for row in rows]
    known = [remedy_share(comparison, row) for row in rows]
    shares = ["" if share is None else f"<br>share of the gap: {share.words}" for share in known]
    return {
        "x": [mean for mean, _, _ in bars],
        "y": [row.name for row in rows],
        "mode": "markers",
        "marker": {"color": colour, "symbol": symbol, "size": 11},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "thickness": 1.5,
            "width": 5,
            "array": [high - mean for mean, _, high in bars],
            "arrayminus": [mean - low for mean, low, _ in bars],
        },
        "customdata": [
            (low, high, share, row.ppl, row.run_time)
            for (_, low, high), share, row in zip(bars, shares, rows, strict=True)
        ],
        "hovertemplate": "%{y}: %{x:+.4f} nats [%{customdata[0]:+.4f}, %{customdata[1]:+.4f}]%{customdata[2]}"
        "<br>PPL %{customdata[3]:.3f}<br>at run time: %{customdata[4]}<extra></extra>",
    }


def on_top(comparison: Comparison) -> Picture | None:
    """What band scales searched under each remedy add to it. None where none were measured."""
    rows = [row for row in comparison.rows if row.added is not None]
    if not rows:
        return None
    names = [f"{'angles too, ' * row.angles}on {row.about.name}" for row in rows]
    lines = [(name, row.added or 0.0, row.added_low, row.added_high) for name, row in zip(names, rows, strict=True)]
    numbers, figure = won_back(lines, [GREEN] * len(lines))
    return Picture(
        "Do band scales still help on top of each?",
        figure,
        numbers,
        "The remedy without band scales minus the remedy with band scales (and angles, where the row names them) that "
        "were searched under it, each search on the same text with the same budget. Green, right of 0: a "
        "significant gain; red, left of it: a significant loss; grey: neither.",
    )
