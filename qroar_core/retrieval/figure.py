"""Retrieval by depth and length: one map a condition on one colour scale, and the maps of their differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from qroar_core.evaluation.figure import NAMES
from qroar_core.figures.heatmaps import Panel, side_by_side
from qroar_core.figures.picture import DIVERGING, SEQUENTIAL, Picture
from qroar_core.figures.readable import write_on_cells
from qroar_core.retrieval.findings import TASK_WORDS
from qroar_core.retrieval.result import Cell, Difference, Retrieval, Task

Score = Literal["log_prob", "hits", "chosen"]
SCORES: dict[Score, str] = {
    "hits": "generated answer",
    "log_prob": "log-probability of the answer",
    "chosen": "likeliest among the candidates",
}
UNITS = {"log_prob": "nats per answer token", "hits": "share of trials", "chosen": "share of trials"}
MINUS = {"quantized - reference": "quantized less reference", "tuned - quantized": "with scales less quantized"}
LENGTH_AXIS = "context length, tokens"
ROW = 46  # pixels of a depth's row: two lines of text


@dataclass(frozen=True, slots=True)
class _Shown:
    """One cell of a map: its colour's value, what is written in it, what hovering says."""

    value: float | None
    text: str
    hover: str


EMPTY = _Shown(None, "does not fit", "no trial fits")


def gallery(result: Retrieval) -> list[Picture]:
    """What a report shows of each task: both scores under every condition, and what the conditions change."""
    drawn = []
    for task in dict.fromkeys(cell.task for cell in result.cells):
        drawn += [
            by_condition(result, task, "hits"),
            by_condition(result, task, "log_prob"),
            differences(result, task, "hits"),
            differences(result, task, "log_prob"),
        ]
    return [picture for picture in drawn if picture is not None]


def by_condition(result: Retrieval, task: Task, score: Score) -> Picture:
    """Depth x length of every condition."""
    mine = [cell for cell in result.cells if cell.task == task]
    names = list(dict.fromkeys((cell.model, cell.scales) for cell in mine))
    lines = {NAMES[who][0]: {(c.length, c.depth): c for c in mine if (c.model, c.scales) == who} for who in names}
    figure = _maps(
        result,
        {name: _drawn_cells(cells, _cell(score)) for name, cells in lines.items()},
        UNITS[score],
        span=None if score == "log_prob" else (0.0, 1.0),
    )
    totals = [(name, cells[None, None]) for name, cells in lines.items()]
    return Picture(
        f"{TASK_WORDS[task]}: {_total_words(totals, score)}",
        figure,
        pd.DataFrame([_line(name, cell) for name, cells in lines.items() for cell in cells.values()]),
        _how(result, score),
    )


def differences(result: Retrieval, task: Task, score: Score) -> Picture | None:
    """Depth x length of what quantization moves and what the scales move; None where nothing is quantized."""
    mine = [apart for apart in result.differences if apart.task == task]
    if not mine:
        return None
    cells = {(c.length, c.depth, c.model, c.scales): c for c in result.cells if c.task == task}
    names = list(dict.fromkeys(apart.what for apart in mine))
    panels = {
        MINUS[what]: _drawn_cells({(d.length, d.depth): d for d in mine if d.what == what}, _apart(score, cells))
        for what in names
    }
    figure = _maps(result, panels, UNITS[score], middle=0.0)
    test = (
        f"A star marks a paired {result.confidence:.0%} interval over trials that excludes 0; a cell has few trials, "
        "so the sentence above pools all of them."
        if score == "log_prob"
        else "Few trials a cell: the sentence above and the table's line without a length pool all of them; "
        "p is McNemar's exact one, of generated answers gained and lost."
    )
    return Picture(
        f"{TASK_WORDS[task]}: what does quantization cost, and what do the scales recover?",
        figure,
        pd.DataFrame([{name: v for name, v in apart.model_dump().items() if name != "task"} for apart in mine]),
        f"Above 0 the first of the two does better. {test}",
    )


def answers(result: Retrieval, task: Task) -> pd.DataFrame:
    """Every trial of a task: what was hidden, what each condition said."""
    return pd.DataFrame(
        [
            {
                "condition": NAMES[t.model, t.scales][0],
                "length": t.length,
                "depth": t.depth,
                "trial": t.trial,
                "answer": t.answer,
                "said": t.said,
                "outcome": t.outcome,
                "log_prob": t.log_prob,
                "rank": t.rank,
                "margin": t.margin,
            }
            for t in result.trials
            if t.task == task
        ]
    )


def _maps(
    result: Retrieval,
    panels: dict[str, dict],
    unit: str,
    *,
    middle: float | None = None,
    span: tuple[float, float] | None = None,
) -> go.Figure:
    """Maps side by side with words in their cells; panels: title -> (length, depth) -> _Shown."""
    columns = [f"{length:,}" for length in result.lengths]
    rows = [f"{depth:.0%} deep" for depth in result.depths]
    drawn, texts, hovers = [], [[] for _ in rows], [[] for _ in rows]  # type: ignore[var-annotated]
    for at, (title, shown) in enumerate(panels.items()):
        grid = [[shown.get((length, depth), EMPTY) for length in result.lengths] for depth in result.depths]
        drawn.append(Panel(title, [[one.value for one in row] for row in grid], columns, LENGTH_AXIS, "length"))
        for i, row in enumerate(grid):  # an empty column between two maps
            texts[i] += [*([""] if at else []), *(one.text for one in row)]
            hovers[i] += [
                *([""] if at else []),
                *(f"{title}, {rows[i]}, {column} tokens<br>{one.hover}" for column, one in zip(columns, row)),
            ]
    figure = side_by_side(drawn, rows, unit, middle=middle, span=span)
    figure.data[0].update(text=texts, hovertext=hovers, hovertemplate="%{hovertext}<extra></extra>")
    axis = figure.layout.coloraxis
    write_on_cells(figure, SEQUENTIAL if middle is None else DIVERGING, axis.cmin, axis.cmax)
    figure.update_layout(height=120 + ROW * len(rows))
    return figure


def _drawn_cells(cells: dict, show: Callable) -> dict:
    """(length, depth) -> _Shown, without the totals."""
    return {place: show(cell) for place, cell in cells.items() if place[0] is not None and cell.trials}


def _cell(score: Score) -> Callable[[Cell], _Shown]:
    def show(cell: Cell) -> _Shown:
        hits, chosen = f"{cell.hits}/{cell.trials}", f"{cell.chosen}/{cell.trials}"
        value, text = {
            "hits": (cell.hits / cell.trials, hits),
            "chosen": (cell.chosen / cell.trials, chosen),
            "log_prob": (cell.log_prob, f"{cell.log_prob:.2f}<br>{hits}"),
        }[score]
        cut = f"<br>{cell.cut_off} cut off" if cell.cut_off and score == "hits" else ""
        return _Shown(value, text + cut, "<br>".join(_facts(cell)))

    return show


def _facts(cell: Cell) -> list[str]:
    facts = [
        f"generated: {cell.hits} of {cell.trials} {_between(cell.hit_low, cell.hit_high, '.0%')}",
        f"likeliest: {cell.chosen} of {cell.trials} {_between(cell.chosen_low, cell.chosen_high, '.0%')}",
        f"log-probability {cell.log_prob:.3f} {_between(cell.log_prob_low, cell.log_prob_high, '.3f')}, "
        f"{cell.margin:+.3f} above other numbers, nats per answer token",
    ]
    missed = [
        ("answers cut off by the token budget", cell.cut_off),
        ("without any number", cell.no_number),
        ("prompts that did not fit", cell.unfit),
    ]
    return facts + [f"{what}: {count}" for what, count in missed if count]


def _apart(score: Score, cells: dict) -> Callable[[Difference], _Shown]:
    def show(apart: Difference) -> _Shown:
        moved = apart.log_prob or 0.0
        clear = (
            apart.log_prob_low is not None
            and apart.log_prob_high is not None
            and (apart.log_prob_low > 0 or apart.log_prob_high < 0)
        )
        before = ("reference", "identity") if apart.what == "quantized - reference" else ("quantized", "identity")
        after = ("quantized", "identity") if apart.what == "quantized - reference" else ("quantized", "tuned")
        chosen = [cells[apart.length, apart.depth, *who].chosen for who in (before, after)]
        value, text = {
            "hits": ((apart.gained - apart.lost) / apart.trials, f"{apart.gained - apart.lost:+d}"),
            "chosen": ((chosen[1] - chosen[0]) / apart.trials, f"{chosen[1] - chosen[0]:+d}"),
            "log_prob": (moved, f"{moved:+z.2f}{' *' if clear else ''}"),
        }[score]
        between = _between(apart.log_prob_low, apart.log_prob_high, "+.3f")
        return _Shown(
            value,
            text,
            f"log-probability {moved:+z.3f} {between} nats per answer token<br>generated: {apart.gained} gained, "
            f"{apart.lost} lost of {apart.trials}, p = {apart.p_value:.2g}<br>likeliest: {chosen[1] - chosen[0]:+d}",
        )

    return show


def _between(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _total_words(totals: Sequence[tuple[str, Cell]], score: Score) -> str:
    """`generated answer, reference 9 of 10, quantized 4 of 10`."""
    if not totals[0][1].trials:
        return "no prompt fits"
    said = [
        f"{name} {cell.log_prob:.2f}" if score == "log_prob" else f"{name} {getattr(cell, score)} of {cell.trials}"
        for name, cell in totals
    ]
    return f"{SCORES[score]}, {'; '.join(said)}"


def _how(result: Retrieval, score: Score) -> str:
    budget = f"the answer's own tokens and {result.slack} more"
    return {
        "hits": f"Each cell: trials whose greedy answer is the hidden number, over trials; an answer may take {budget}."
        " One that breaks off inside the number is called cut off; one in which no number begins is without a number. "
        "Neither is a hit. Hover for Wilson intervals.",
        "log_prob": "Each cell: mean log-probability of the hidden number, teacher-forced, nearer to 0 is better; "
        "below it the generated hits over trials. Hover for intervals, and for how far it lies above other numbers.",
        "chosen": f"Each cell: trials in which the hidden number is likelier than {result.choices - 1} others (for "
        f"needles those of the other names), over trials; a guess has {result.chance:.0%}. Hover for intervals.",
    }[score]


def _line(name: str, cell: Cell) -> dict:
    kept = {key: v for key, v in cell.model_dump().items() if key not in ("task", "model", "scales")}
    return {"condition": name} | kept
