"""Scores of tasks under each condition, side by side, and their table."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BLUE, GREEN, ORANGE, Picture, framed
from qroar_core.harness.result import CONDITIONS, QUANTIZED, REFERENCE, TUNED, Score, TaskScores
from qroar_core.specs.labels import CONDITION_WORDS

LOOKS = {REFERENCE: (BLUE, "circle"), QUANTIZED: (ORANGE, "square"), TUNED: (GREEN, "diamond")}
ROW = 44  # pixels


def table(found: TaskScores) -> pd.DataFrame:
    """One row a task, metric and condition."""
    ordered = sorted(found.scores, key=found.order)
    return pd.DataFrame([one.model_dump() | {"stderr": one.stderr} for one in ordered])


def scores(found: TaskScores) -> Picture | None:
    """Every metric that is a share, with the harness's standard errors. None where there is none."""
    shares = [one for one in found.scores if one.higher_is_better and 0 <= one.value <= 1]
    if not shares:
        return None
    figure = go.Figure()
    for who in CONDITIONS:
        mine = [one for one in shares if (one.model, one.scales) == who]
        colour, symbol = LOOKS[who]
        if mine:
            figure.add_scatter(
                x=[one.value for one in mine],
                y=[_name(one) for one in mine],
                error_x={"type": "data", "array": [one.stderr or 0.0 for one in mine], "thickness": 1.5, "width": 5},
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 11},
                name=CONDITION_WORDS["/".join(who)],
            )
    names = list(dict.fromkeys(_name(one) for one in shares))
    framed(figure, "score, as a share", "", height=150 + ROW * len(names))
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], automargin=True)
    return Picture(
        "What does quantization cost on the tasks?",
        figure,
        table(found),
        f"Scores of lm-evaluation-harness {found.harness}; bars are its standard errors over documents, one to each "
        "side. The same documents are asked under every condition, so a difference is known better than they show: "
        "the findings have its paired interval.",
        f"{found.setup}, {found.text}.",
    )


def _name(one: Score) -> str:
    return f"{one.task}, {one.metric}" + (f" ({one.filter})" if one.filter != "none" else "")
