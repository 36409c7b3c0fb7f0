"""The same prompt continued under each condition: where they part, and how sure each model was."""

from __future__ import annotations

import html
import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.escape import figure_text
from qroar_core.evaluation.continuations_result import Continuation, Continuations
from qroar_core.evaluation.figure import NAMES
from qroar_core.figures.picture import Picture, framed

PARTED = "background: rgba(213, 94, 0, 0.22)"  # everything from the departure on
FIRST = "background: rgba(213, 94, 0, 0.5); outline: 2px solid #D55E00"  # the departing token itself


def name_of(row: Continuation) -> str:
    """The condition's name, as in the evaluation's figures."""
    return NAMES[row.model, row.scales][0]


def departure(row: Continuation, reference: Continuation) -> str:
    """One line: does this continuation stay with the reference's, and for how long?"""
    if row is reference:
        return f"{len(row.tokens)} tokens, the reference for the others"
    if row.departs_at is None:
        return f"all {len(row.tokens)} tokens are the reference's"
    return f"departs from the reference at token {row.departs_at + 1} of {len(row.tokens)}"


def marked(row: Continuation) -> str:
    """The continuation as HTML: each token with its probability on hover, marked from the departure on."""
    parts = []
    for i, (piece, log_prob) in enumerate(zip(row.pieces, row.log_prob, strict=True)):
        style = "" if row.departs_at is None or i < row.departs_at else FIRST if i == row.departs_at else PARTED
        said = f"token {i + 1}, p = {math.exp(log_prob):.3f}"
        parts.append(f'<span title="{said}" style="{style}">{html.escape(piece)}</span>')
    return "".join(parts)


def certainty(found: Continuations) -> Picture:
    """Probability of every token taken, by condition, with the departures marked."""
    table = pd.DataFrame(
        [
            {
                "condition": name_of(row),
                "token": i + 1,
                "text": piece,
                "id": token,
                "log_prob": log_prob,
                "same_as_reference": row.departs_at is None or i < row.departs_at,
            }
            for row in found.rows
            for i, (token, piece, log_prob) in enumerate(zip(row.tokens, row.pieces, row.log_prob, strict=True))
        ]
    )
    figure = go.Figure()
    for row in found.rows:
        name, colour, symbol = NAMES[row.model, row.scales]
        marks = ["x" if i == row.departs_at else symbol for i in range(len(row.tokens))]
        sizes = [13 if i == row.departs_at else 6 for i in range(len(row.tokens))]
        figure.add_scatter(
            x=list(range(1, len(row.tokens) + 1)),
            y=[math.exp(v) for v in row.log_prob],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 1.5},
            marker={"symbol": marks, "size": sizes},
            customdata=[(figure_text(repr(piece)), v) for piece, v in zip(row.pieces, row.log_prob, strict=True)],
            hovertemplate=f"{name}, token %{{x}} %{{customdata[0]}}: p = %{{y:.3f}}, "
            "ln p = %{customdata[1]:.3f}<extra></extra>",
        )
    framed(figure, "token of the continuation", "probability of the token taken")
    figure.update_yaxes(range=[0, 1.02])
    figure.update_layout(margin={"t": 70})
    parted = [row.departs_at + 1 for row in found.rows if row.departs_at is not None]
    said = (
        "No continuation departs from the reference"
        if not parted
        else f"The first departure from the reference is at token {min(parted)}"
    )
    return Picture(
        said,
        figure,
        table,
        "Greedy: each model takes its own most probable token. A cross is the first token that is not the reference's; "
        "from there on the models read different texts. At a low probability several tokens were possible.",
    )
