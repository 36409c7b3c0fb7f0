"""What the scales are worth on held-out text: perplexity by length, the paired gain, repair against retuning."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from qroar_core.evaluation.result import Evaluation, Row
from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Picture, framed
from qroar_core.result import exp
from qroar_core.specs.labels import CONDITION_WORDS
from qroar_core.statistics.intervals import paired_interval

NORMAL_95 = 1.96  # half width of a 95 % interval, standard errors
SPREAD = 0.5  # how wide the conditions of one length stand apart, in steps between lengths
SHOWN_FIRST = ("quantized/identity", "quantized/tuned")  # of the conditions by position
BY_RUNTIME = " (the runtime must do it)"
STYLES = {  # model and scales: colour and marker
    ("reference", "identity"): (BLUE, "circle"),
    ("reference", "tuned"): (SKY, "circle-open"),
    ("quantized", "identity"): (RED, "square"),
    ("quantized", "tuned"): (GREEN, "diamond"),
    ("quantized", "smooth_attention"): (ORANGE, "triangle-up"),
    ("quantized", "rotation"): (PINK, "star"),
    ("quantized", "rotation_tuned"): (GREY, "cross"),
    ("reference", "untied"): (BLUE, "circle-cross-open"),
    ("quantized", "untied"): (RED, "square-cross-open"),
}
NAMES = {
    key: (CONDITION_WORDS["/".join(key)] + BY_RUNTIME * (key[1] == "rotation"), *drawn) for key, drawn in STYLES.items()
}


def look(row: Row) -> tuple[str, str, str]:
    """Name, colour and marker of a row's condition."""
    return NAMES.get((row.model, row.scales), (f"{row.model}, {row.scales}", GREY, "x"))


def perplexity_by_length(evaluation: Evaluation) -> Picture:
    """PPL of every condition by context length, 95 % interval over windows (of NLL, then exp)."""
    table = pd.DataFrame([_line(row) for row in evaluation.rows])
    figure = go.Figure()
    names = list(dict.fromkeys(look(row)[0] for row in evaluation.rows))
    lengths = sorted({row.length for row in evaluation.rows})
    for i, name in enumerate(names):
        rows = [row for row in evaluation.rows if look(row)[0] == name]
        aside = SPREAD * ((i + 0.5) / len(names) - 0.5)  # side by side, so that no bar hides another
        _, colour, symbol = look(rows[0])
        figure.add_scatter(
            x=[lengths.index(r.length) + aside for r in rows],
            y=[r.ppl for r in rows],
            name=name,
            mode="lines+markers",
            line={"color": colour},
            marker={"symbol": symbol, "size": 10},
            error_y={
                "type": "data",
                "symmetric": False,
                "thickness": 1.2,
                "width": 5,
                "array": [_ppl(r, +1) - r.ppl for r in rows],
                "arrayminus": [r.ppl - _ppl(r, -1) for r in rows],
            },
            customdata=[(r.nll, r.nll_se, r.length) for r in rows],
            hovertemplate=f"{name}, %{{customdata[2]}} tokens: PPL %{{y:.3f}}<br>NLL %{{customdata[0]:.4f}}"
            " ± %{customdata[1]:.4f} nats<extra></extra>",
        )
    framed(figure, "context length, tokens", "perplexity (lower is better)", height=420)
    figure.update_xaxes(tickvals=list(range(len(lengths))), ticktext=[str(n) for n in lengths])
    figure.update_layout(margin={"t": 70})
    return Picture(
        "How well is held-out text predicted, by context length?",
        figure,
        table,
        f"{_unshown(evaluation)}Same target tokens at every length; bars are 95 % intervals over windows. They are "
        "wide because some windows are harder than others, under every condition alike: the paired costs below take "
        "that out.",
    )


def _unshown(evaluation: Evaluation) -> str:
    names = [f"{look(row)[0]} at {row.length} tokens" for row in evaluation.rows if row.ppl == float("inf")]
    return f"Infinite, so not drawn: {', '.join(names)}. " if names else ""


def _ppl(row: Row, side: int) -> float:
    return exp(row.nll + side * NORMAL_95 * row.nll_se)


def _line(row: Row) -> dict:
    line = {
        "length": row.length,
        "condition": look(row)[0],
        "ppl": row.ppl,
        "ppl_low": _ppl(row, -1),
        "ppl_high": _ppl(row, +1),
        "nll": row.nll,
        "nll_se": row.nll_se,
        "kl_mean": row.kl_mean,
        "kl_p99": row.kl_p99,
        "same_top1": row.same_top1,
        "tokens": row.tokens,
    }
    return line


def cost_by_length(evaluation: Evaluation) -> Picture | None:
    """NLL above the reference, paired window by window, with 95 % intervals. None without window means."""
    lines = []
    for row in evaluation.rows:
        mine = evaluation.window_nll.get(f"{row.length}/{row.model}/{row.scales}")
        reference = evaluation.window_nll.get(f"{row.length}/reference/identity")
        if mine and reference and (row.model, row.scales) != ("reference", "identity"):
            cost = paired_interval(mine, reference)
            lines.append((row.length, *look(row), cost.mean, cost.low, cost.high))
    if not lines:
        return None
    table = pd.DataFrame(lines, columns=["length", "condition", "colour", "symbol", "cost_nats", "ci_low", "ci_high"])
    lengths = sorted(set(table["length"]))
    figure = go.Figure()
    groups = list(table.groupby("condition", sort=False))
    for i, (name, group) in enumerate(groups):
        aside = SPREAD * ((i + 0.5) / len(groups) - 0.5)
        figure.add_scatter(
            x=[lengths.index(n) + aside for n in group["length"]],
            y=group["cost_nats"],
            name=name,
            mode="markers",
            marker={"symbol": group["symbol"].iloc[0], "size": 10, "color": group["colour"].iloc[0]},
            error_y={
                "type": "data",
                "symmetric": False,
                "thickness": 1.5,
                "width": 5,
                "array": group["ci_high"] - group["cost_nats"],
                "arrayminus": group["cost_nats"] - group["ci_low"],
            },
            customdata=group["length"],
            hovertemplate=f"{name}, %{{customdata}} tokens: %{{y:+.4f}} nats<extra></extra>",
        )
    framed(figure, "context length, tokens", "NLL above the reference, nats per token", height=420)
    figure.update_xaxes(tickvals=list(range(len(lengths))), ticktext=[str(n) for n in lengths])
    figure.update_layout(margin={"t": 70})
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    return Picture(
        "What does each condition cost against the reference?",
        figure,
        table.drop(columns=["colour", "symbol"]),
        "Paired: the same window under both. 0 is the unquantized model without scales; a bar that crosses 0 is no "
        "significant difference.",
    )


DEPENDENT = (
    " Windows of one document resemble each other, which makes an interval over windows too narrow; over documents, "
    "each is one observation."
)


def gain_and_attribution(evaluation: Evaluation) -> Picture | None:
    """The paired gain with its interval, and its parts: repair of quantization and mere retuning."""
    gain, parts = evaluation.gain, evaluation.attribution
    if gain is None:
        return None
    lines: list[tuple[str, float, float | None, float | None]] = [
        ("gain under quantization", gain.delta_nll, gain.ci_low, gain.ci_high)
    ]
    whole = evaluation.gain_by_document
    if whole is not None and whole.documents < gain.windows:  # as many documents as windows say the same again
        lines.append((f"the same, over {whole.documents} documents", whole.delta_nll, whole.ci_low, whole.ci_high))
    colours = [GREEN] * len(lines) + [BLUE, SKY]
    if parts is not None:
        lines.append(
            ("of it: quantization repaired", parts.quantization_repair, parts.repair_ci_low, parts.repair_ci_high)
        )
        lines.append(
            (
                "of it: retuning, independent of quantization",
                parts.retuning,
                parts.retuning_ci_low,
                parts.retuning_ci_high,
            )
        )
    table, figure = won_back(lines, colours)
    percent = round(100 * gain.confidence)
    return Picture(
        "Is the gain real, and is it repair?",
        figure,
        table,
        f"Paired over {gain.windows} windows at {gain.length} tokens, with {percent} % intervals. A grey bar's "
        f"interval touches 0: not significant.{'' if len(colours) == 3 else DEPENDENT}",
    )


def won_back(
    lines: Sequence[tuple[str, float, float | None, float | None]], colours: Sequence[str]
) -> tuple[pd.DataFrame, go.Figure]:
    """Bars of nats per token recovered, one a line (part, mean, interval's ends or None), and their numbers.

    Args:
        colours: of bars that show a gain. One whose interval includes 0, or has none, is grey; a loss is red.
    """
    table = pd.DataFrame(lines, columns=["part", "nats_per_token", "ci_low", "ci_high"])
    low, high = (table[end].fillna(table["nats_per_token"]).astype(float) for end in ("ci_low", "ci_high"))
    figure = go.Figure(
        go.Bar(
            x=table["nats_per_token"],
            y=table["part"],
            orientation="h",
            marker={"color": [_proven(*line[2:], colour) for line, colour in zip(lines, colours, strict=False)]},
            error_x={
                "type": "data",
                "symmetric": False,
                "thickness": 1.5,
                "width": 6,
                "color": GREY,
                "array": high - table["nats_per_token"],
                "arrayminus": table["nats_per_token"] - low,
            },
            customdata=["" if v is None or h is None else f" [{v:+.4f}, {h:+.4f}]" for _, _, v, h in lines],
            hovertemplate="%{y}: %{x:+.4f} nats per token%{customdata}<extra></extra>",
        )
    )
    framed(figure, "nats per token recovered (right of 0 is better)", "", height=120 + 40 * len(lines), legend=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    return table, figure


def _proven(low: float | None, high: float | None, colour: str) -> str:
    """A bar's colour by its interval."""
    return colour if (low or 0.0) > 0 else RED if (high or 0.0) < 0 else GREY


def by_position(evaluation: Evaluation) -> Picture | None:
    """Mean NLL by position inside the scored targets of the longest length."""
    curve = evaluation.positions
    if curve is None:
        return None
    table = pd.DataFrame({"position": curve.position} | curve.curves)
    reference = curve.curves.get("reference/identity")
    figure = go.Figure()
    for name, values in curve.curves.items():
        if reference is None or name == "reference/identity":
            continue
        model, _, scales = name.partition("/")
        shown, colour, _ = NAMES.get((model, scales), (name, GREY, "x"))
        cost = [a - b for a, b in zip(values, reference, strict=True)]
        low, high = curve.cost_low.get(name, cost), curve.cost_high.get(name, cost)
        seen = True if name in SHOWN_FIRST else "legendonly"  # six shades at once hide each other
        if name in curve.cost_low:
            table[f"{name} cost_low"], table[f"{name} cost_high"] = low, high
            figure.add_scatter(
                x=[*curve.position, *reversed(curve.position)],
                y=[*high, *reversed(low)],
                fill="toself",
                mode="none",
                fillcolor=_faint(colour),
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
                visible=seen,
            )
        figure.add_scatter(
            x=curve.position,
            y=cost,
            name=shown,
            mode="lines+markers",
            line={"color": colour},
            legendgroup=name,
            visible=seen,
            customdata=[(exp(v), exp(c), lo, hi) for v, c, lo, hi in zip(values, cost, low, high, strict=True)],
            hovertemplate=f"{shown}, position %{{x}}: %{{y:+.4f}} nats "
            "[%{customdata[2]:+.4f}, %{customdata[3]:+.4f}]"
            "<br>PPL %{customdata[0]:.3f}, %{customdata[1]:.3f} times the reference's<extra></extra>",
        )
    framed(figure, "position in the context, tokens", "NLL above the reference, nats per token", height=420)
    figure.update_layout(margin={"t": 70})
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    return Picture(
        "Where in the context does it cost?",
        figure,
        table,
        f"Each point is a mean over windows around that position{_sliding(evaluation)}, less the reference's; shades "
        "are paired 95 % intervals. Click a name to show or hide it. The table has the NLL itself; e to its power is "
        "the perplexity.",
    )


def _sliding(evaluation: Evaluation) -> str:
    """What a position means where windows slid."""
    return "" if evaluation.stride is None else f" of a window that slides by {evaluation.stride} tokens"


def _faint(colour: str) -> str:
    """`#rrggbb` at a fifth of its strength."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"
