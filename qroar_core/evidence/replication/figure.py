"""The papers' claims by setting: the verdict as a word and a colour, the figure and its interval in the cell."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import plotly.graph_objects as go

from qroar_core.evidence.replication.claims import CLAIMS, PAPER
from qroar_core.evidence.replication.result import Claim, Replication, SettingClaims, Verdict
from qroar_core.figures.picture import BLUE, GREY, ORANGE, Picture, framed

LEVELS: tuple[Verdict, ...] = ("not testable here", "undecided", "does not hold", "holds")
FADED = (0.05, 0.18, 0.34, 0.26)  # opacity of each: pale, so that the text in either theme's own colour stays readable
ROW, TALLER = 66, 110  # pixels of a claim's row; of what stands around the rows
WRAP, ABOVE = 30, 96  # characters of a line of a claim; of all settings side by side
ROOMY = 6  # settings up to which a cell has room for its figure
FORMS = {"nats": "+z.3f", "rho": "+.2f", "times": ".3f", "%": ".1f", "points": "+.2f"}


def matrix(result: Replication) -> Picture:
    """Claims x settings."""
    names = [name for name in CLAIMS if any(claim.name == name for case in result.cases for claim in case.claims)]
    cells = [[_claim(case, name) for case in result.cases] for name in names]
    rows = [_wrapped(CLAIMS[name].statement) for name in names]
    count = len(result.cases)
    columns = [_wrapped(case.name, max(10, ABOVE // count)) for case in result.cases]
    figure = go.Figure(
        go.Heatmap(
            z=[[LEVELS.index(claim.verdict) for claim in row] for row in cells],
            x=list(range(len(columns))),
            y=list(range(len(rows))),
            zmin=-0.5,
            zmax=len(LEVELS) - 0.5,
            colorscale=_steps(),
            showscale=False,
            xgap=3,
            ygap=3,
            hovertext=[[_hover_words(claim, case) for claim, case in zip(row, result.cases)] for row in cells],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    figure.add_scatter(  # as points, for their text takes the theme's colour; that of cells does not
        x=[x for _ in rows for x in range(count)],
        y=[y for y in range(len(rows)) for _ in range(count)],
        mode="text",
        text=[_cell_words(claim, count <= ROOMY) for row in cells for claim in row],
        textfont={"size": 11},
        hoverinfo="skip",
        showlegend=False,
    )
    framed(figure, "", "", height=TALLER + ROW * len(rows), legend=False)
    figure.update_xaxes(
        tickvals=list(range(len(columns))), ticktext=columns, side="top", showgrid=False, range=[-0.5, count - 0.5]
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=rows, range=[len(rows) - 0.5, -0.5], automargin=True, showgrid=False
    )
    figure.update_layout(margin={"t": 70, "b": 10})
    return Picture(
        _title(result),
        figure,
        table(result),
        f"Claims of {PAPER}, on this model and text. Each cell: the verdict, its figure and its "
        f"{result.confidence:.0%} interval, in the row's unit. A claim holds, or does not, where the whole interval "
        f"lies on one side of its threshold; the table states every rule. Scales may cost {result.tolerance:g} nats at "
        f"short context ({result.short_length} tokens); perplexity is cut at {result.length} tokens.",
    )


def table(result: Replication) -> pd.DataFrame:
    """One line a setting and claim: verdict, figure, interval, rule."""
    return pd.DataFrame(
        [
            {
                "setting": case.name,
                "claim": CLAIMS[claim.name].statement,
                "verdict": claim.verdict,
                "value": claim.value.mean if claim.value else None,
                "ci_low": claim.value.low if claim.value else None,
                "ci_high": claim.value.high if claim.value else None,
                "unit": CLAIMS[claim.name].unit,
                "detail": claim.detail,
                "rule": CLAIMS[claim.name].rule,
            }
            for case in result.cases
            for claim in case.claims
        ]
    )


def value_words(claim: Claim) -> str:
    """`+0.123 nats [+0.100, +0.150]`, or nothing."""
    return " ".join(_figure(claim))


def _figure(claim: Claim) -> list[str]:
    """The figure with its unit, and the interval."""
    if claim.value is None:
        return []
    unit = CLAIMS[claim.name].unit
    mean, low, high = (f"{v:{FORMS[unit]}}" for v in (claim.value.mean, claim.value.low, claim.value.high))
    return [f"{mean} {unit}", f"[{low}, {high}]"]


def _cell_words(claim: Claim, roomy: bool) -> str:
    return "<br>".join([f"<b>{claim.verdict}</b>", *(_figure(claim) if roomy else [])])


def _claim(case: SettingClaims, name: str) -> Claim:
    return next(claim for claim in case.claims if claim.name == name)


def _hover_words(claim: Claim, case: SettingClaims) -> str:
    rule = CLAIMS[claim.name]
    said = [f"<b>{rule.statement}</b>: {claim.verdict}", case.name, value_words(claim), claim.detail, rule.rule]
    return "<br>".join(_wrapped(line, 80) for line in said if line)


def _title(result: Replication) -> str:
    count = Counter(claim.verdict for case in result.cases for claim in case.claims)
    total = sum(count[verdict] for verdict in LEVELS[1:])
    return (
        f"Of {total} testable claims {count['holds']} hold, {count['does not hold']} do not, "
        f"{count['undecided']} are undecided"
    )


def _steps() -> list[list]:
    """Four flat colours: no gradient between verdicts."""
    out: list[list] = []
    for i, (colour, fade) in enumerate(zip((GREY, GREY, ORANGE, BLUE), FADED)):
        shade = f"rgba({','.join(str(int(colour[j : j + 2], 16)) for j in (1, 3, 5))},{fade})"
        out += [[i / len(LEVELS), shade], [(i + 1) / len(LEVELS), shade]]
    return out


def _wrapped(text: str, width: int = WRAP) -> str:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)
