"""What the scales are worth on unseen text: perplexity by length, the paired gain, repair against retuning."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Picture, framed
from qroar_core.results import Evaluation
from qroar_core.results.evaluation import Row

NORMAL_95 = 1.96  # half width of a 95 % interval, standard errors
NAMES = {
    ("reference", "identity"): ("reference", BLUE, "circle"),
    ("reference", "tuned"): ("reference, tuned", SKY, "circle-open"),
    ("quantized", "identity"): ("quantized", RED, "square"),
    ("quantized", "tuned"): ("quantized, tuned", GREEN, "diamond"),
    ("quantized", "smooth_attention"): ("quantized, SmoothAttention", ORANGE, "triangle-up"),
    ("quantized", "rotation"): ("quantized, Hadamard rotation (the runtime must do it)", PINK, "star"),
    ("quantized", "rotation_tuned"): ("quantized, rotation and scales", GREY, "cross"),
}


def _look(row: Row) -> tuple[str, str, str]:
    return NAMES.get((row.model, row.scales), (f"{row.model}, {row.scales}", GREY, "x"))


def perplexity_by_length(evaluation: Evaluation) -> Picture:
    """PPL of every condition by context length, 95 % interval over windows (of NLL, then exp)."""
    table = pd.DataFrame([_line(row) for row in evaluation.rows])
    figure = go.Figure()
    for name in dict.fromkeys(_look(row)[0] for row in evaluation.rows):
        rows = [row for row in evaluation.rows if _look(row)[0] == name]
        _, colour, symbol = _look(rows[0])
        figure.add_scatter(
            x=[str(r.length) for r in rows], y=[r.ppl for r in rows], name=name, mode="lines+markers",
            line={"color": colour}, marker={"symbol": symbol, "size": 10},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.2, "width": 5,
                "array": [_ppl(r, +1) - r.ppl for r in rows], "arrayminus": [r.ppl - _ppl(r, -1) for r in rows],
            },
            customdata=[(r.nll, r.nll_se) for r in rows],
            hovertemplate=f"{name}, %{{x}} tokens: PPL %{{y:.3f}}<br>NLL %{{customdata[0]:.4f}}"
            " ± %{customdata[1]:.4f} nats<extra></extra>",
        )  # fmt: skip
    framed(figure, "context length, tokens", "perplexity (lower is better)", height=420)
    figure.update_xaxes(type="category")
    figure.update_layout(margin={"t": 70})
    return Picture(
        "How well is unseen text predicted, by context length?",
        figure,
        table,
        "Same target tokens at every length; bars are 95 % intervals over windows. They overlap more than the "
        "paired gain below, since what makes a window hard is common to all conditions.",
    )


def _ppl(row: Row, side: int) -> float:
    return math.exp(row.nll + side * NORMAL_95 * row.nll_se)


def _line(row: Row) -> dict:
    line = {"length": row.length, "condition": _look(row)[0], "ppl": row.ppl, "ppl_low": _ppl(row, -1),
            "ppl_high": _ppl(row, +1), "nll": row.nll, "nll_se": row.nll_se, "kl_mean": row.kl_mean,
            "kl_p99": row.kl_p99, "same_top1": row.same_top1, "tokens": row.tokens}  # fmt: skip
    return line


def gain_and_attribution(evaluation: Evaluation) -> Picture | None:
    """The paired gain with its interval, and its parts: repair of quantization and mere retuning."""
    gain, parts = evaluation.gain, evaluation.attribution
    if gain is None:
        return None
    lines = [("gain under quantization", gain.delta_nll, gain.ci_low, gain.ci_high)]
    if parts is not None:
        lines.append(("of it: quantization repaired", parts.quantization_repair, parts.repair_ci_low,
                      parts.repair_ci_high))  # fmt: skip
        lines.append(("of it: retuning, owes nothing to quantization", parts.retuning, None, None))
    table = pd.DataFrame(lines, columns=["part", "nats_per_token", "ci_low", "ci_high"])
    figure = go.Figure(
        go.Bar(
            x=table["nats_per_token"], y=table["part"], orientation="h",
            marker={"color": [GREEN, BLUE, GREY][: len(lines)]},
            error_x={
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 6,
                "array": [0 if h is None else h - v for _, v, _, h in lines],
                "arrayminus": [0 if low is None else v - low for _, v, low, _ in lines],
            },
            hovertemplate="%{y}: %{x:.4f} nats per token<extra></extra>",
        )
    )  # fmt: skip
    framed(figure, "nats per token won back (right of 0 is better)", "", height=240, legend=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    percent = round(100 * gain.confidence)
    return Picture(
        "Is the gain real, and is it repair?",
        figure,
        table,
        f"Paired over {gain.windows} windows at {gain.length} tokens, with {percent} % intervals: a bar whose interval "
        "touches 0 proves nothing.",
    )


def by_position(evaluation: Evaluation) -> Picture | None:
    """Mean NLL by position inside the scored targets of the longest length."""
    curve = evaluation.positions
    if curve is None:
        return None
    table = pd.DataFrame({"position": curve.position} | curve.curves)
    figure = go.Figure()
    for name, values in curve.curves.items():
        model, _, scales = name.partition("/")
        shown, colour, _ = NAMES.get((model, scales), (name, GREY, "x"))
        figure.add_scatter(
            x=curve.position, y=values, name=shown, mode="lines+markers", line={"color": colour},
            hovertemplate=f"{shown}, position %{{x}}: %{{y:.4f}} nats<extra></extra>",
        )  # fmt: skip
    framed(figure, "position in the context, tokens", "mean NLL, nats per token")
    return Picture(
        "Where in the context is the loss?",
        figure,
        table,
        "Each point is the mean over windows of the NLL around that position; the gap between two curves is what a "
        "condition costs there.",
    )


def headline(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(name, value, unit or meaning) of the few numbers to see first, at the longest length."""
    longest = max(row.length for row in evaluation.rows)
    ppl = {(row.model, row.scales): row.ppl for row in evaluation.rows if row.length == longest}
    shown = [("reference", "identity"), ("quantized", "identity"), ("quantized", "tuned")]
    numbers = [
        (f"PPL, {NAMES[which][0]}", f"{ppl[which]:.3f}", f"perplexity at {longest} tokens")
        for which in shown
        if which in ppl
    ]
    if evaluation.gap_recovered is not None:
        share = f"{evaluation.gap_recovered:.0%}"
        numbers.append(("NLL gap won back", share, "share of what quantization costs in nats that the scales win back"))
    return numbers
