"""The search as it goes: every candidate and the best so far. Also drawn live, from what has come in."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import BLUE, GREY, ORANGE, Picture, framed
from qroar_core.scale_search.result import HistoryPoint, SearchReport
from qroar_core.specs.labels import checksum_words

MOST_DRAWN = 2000  # candidates; past this every n-th is drawn, the best and the last always


def candidates(history: Sequence[HistoryPoint], objective: str = "") -> Picture:
    """Objective of every candidate over the step, with the running best and identity's line."""
    table = pd.DataFrame(
        [(c.step, c.label, c.objective, c.best) for c in history],
        columns=["step", "candidate", "objective", "best_so_far"],
    )
    drawn = _thinned(table)
    figure = go.Figure()
    figure.add_scatter(
        x=drawn["step"],
        y=drawn["objective"],
        mode="markers",
        name="candidate",
        text=drawn["candidate"],
        marker={"color": GREY, "size": 6},
        hovertemplate="step %{x}: %{y:.5g}<br>%{text}<extra></extra>",
    )
    figure.add_scatter(
        x=drawn["step"],
        y=drawn["best_so_far"],
        mode="lines",
        name="best so far",
        line={"color": BLUE, "width": 2, "shape": "hv"},
        hovertemplate="step %{x}: best %{y:.5g}<extra></extra>",
    )
    first = next((c.objective for c in history if c.label == "identity"), None)
    if first is not None and len(drawn):
        ends = [int(drawn["step"].min()), int(drawn["step"].max())]
        figure.add_scatter(
            x=ends,
            y=[first, first],
            mode="lines",
            name="identity (no scales)",
            line={"color": ORANGE, "dash": "dash"},
            hovertemplate="identity %{y:.5g}<extra></extra>",
        )
    framed(figure, "step", f"objective{f' ({objective})' if objective else ''}, lower is better")
    best = min((c.best for c in history), default=None)
    return Picture(
        _title(first, best),
        figure,
        table,
        "A dot is one candidate, the line is the best until then, each head at its own best: below the dashed line "
        f"scales are better than none.{_of_few_rows(history)}",
    )


def _title(first: float | None, best: float | None) -> str:
    if not first or best is None:
        return "What has the search found so far?"
    if best >= first:
        return "No candidate is better than no scales so far"
    return f"The best scales lower the objective by {1 - best / first:.1%}"


def _of_few_rows(history: Sequence[HistoryPoint]) -> str:
    if all(c.best <= c.objective for c in history):
        return ""
    return " Dots below the line are gradient steps, seen on a few rows of one window only: they cannot be the best."


def summary(report: SearchReport) -> pd.DataFrame:
    """The search in one table of plain facts."""
    facts = {
        "method": f"{report.method} on the {report.objective} objective",
        "objective, identity": f"{report.objective_identity:.6g}",
        "objective, found": f"{report.objective_found:.6g}",
        "candidates tried": str(report.trials),
        "time": f"{report.seconds:.1f} s = {report.forward_equivalents:.2f} bare forward passes",
        "short-context guard": report.guard,
        **({} if report.polish is None else {"polish of tied pairs": report.polish.words}),
        "text": checksum_words(report.text),
        "kept": report.chosen,
        "why": report.reason,
    }
    return pd.DataFrame({"what": facts.keys(), "value": facts.values()})


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    if len(table) <= MOST_DRAWN:
        return table
    keep = set(range(0, len(table), -(-len(table) // MOST_DRAWN))) | {len(table) - 1, int(table["objective"].argmin())}
    return table.iloc[sorted(keep)]


def candidates_of(details: Sequence[object]) -> list[HistoryPoint]:
    """The candidates among what a running search has reported."""
    return [d for d in details if isinstance(d, HistoryPoint)]
