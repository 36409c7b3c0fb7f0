"""Maps side by side on one colour scale, cells that can be clicked, and pooling of maps too fine to send.

Several maps are drawn as one heatmap with empty columns between them: a figure of one trace and one pair of axes
is built ten times faster than one of many subplots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import plotly.graph_objects as go

from qroar_core.figures.picture import DIVERGING, GREEN, SEQUENTIAL, framed, lay_out, map_height
from qroar_core.figures.readable import ink_on
from qroar_core.statistics.digits import shown

GAPS = 24  # columns up to which cells stand apart
BETWEEN = 0.06  # empty space between two panels, in panel widths
LABEL_ROOM = 66  # characters of column labels that fit under the narrowest figure
TITLE_ROOM = 68  # and of titles over its panels; longer ones take more lines
ROW_LABELS = 40  # row labels that fit beside it
Number = float | None
Rows = Sequence[Sequence[Number]]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One map: rows are shared by all panels of a figure, columns are its own."""

    title: str
    z: Rows
    columns: list[str]
    axis: str  # title of the horizontal axis, with its unit
    word: str  # before a column's name in the hover: "band", "positions"
    digits: int = 4  # significant ones of a value in the hover


def column_at(panel: int, column: float, count: int) -> float:
    """Where the middle of a panel's column stands; each panel is 1 wide."""
    return panel * (1 + BETWEEN) + (column + 0.5) / count


def side_by_side(
    panels: Sequence[Panel],
    rows: list[str],
    unit: str,
    *,
    middle: float | None = None,
    span: tuple[float, float] | None = None,
) -> go.Figure:
    """Maps in one row with a shared vertical axis and one colour bar; around `middle` the scale is diverging.

    A panel's columns share its width; row i stands at y = i, from the top.
    """
    edges, ticks, names, notes = [], [], [], []
    z: list[list[Number]] = [[] for _ in rows]
    hover: list[list[str]] = [[] for _ in rows]
    titles = [_lines(panel.title, len(panels)) for panel in panels]
    for at, panel in enumerate(panels):
        count = len(panel.columns)
        for i, name in enumerate(rows):
            z[i] += [*([None] if at else []), *map(_brief, panel.z[i])]
            told = [f"{name}, {panel.word} {c}: {_number(v, panel.digits)}" for c, v in zip(panel.columns, panel.z[i])]
            hover[i] += [*([""] if at else []), *told]
        edges += [column_at(at, c - 0.5, count) for c in range(count + 1)]
        step = -(-count * len(panels) * (2 + max(map(len, panel.columns))) // LABEL_ROOM)
        named = range(0, count - (step > 1 and panel is not panels[-1]), step)  # the next panel's first name is near
        ticks += [column_at(at, c, count) for c in named]
        names += [panel.columns[c] for c in named]
        notes.append(_title(titles[at], at))
    gap = int(max(len(panel.columns) for panel in panels) <= GAPS)
    figure = go.Figure(
        go.Heatmap(
            z=z,
            x=edges,
            y=list(range(len(rows))),
            coloraxis="coloraxis",
            xgap=gap,
            ygap=1,
            hovertext=hover,
            hovertemplate=f"%{{hovertext}} {unit}<extra></extra>",  # said once, not in every cell
            hoverongaps=False,
        )
    )
    axes = list(dict.fromkeys(panel.axis for panel in panels))
    words = axes[0] if len(axes) == 1 else f"left: {axes[0]}; right: {axes[-1]}"
    framed(figure, words, "", height=map_height(len(rows)) + 30, legend=False)
    top = 17 * max(len(lines) for lines in titles) + 17 if any(titles) else 12
    across = {"tickvals": ticks, "ticktext": names, "range": [0, edges[-1]], "showgrid": False, "tickangle": 0}
    down = {**_row_ticks(rows), "range": [len(rows) - 0.5, -0.5], "showgrid": False, "automargin": True}
    colours = colour_axis([p.z for p in panels], unit, middle, span)
    said = {"coloraxis": colours, "annotations": notes, "margin": {"t": top}, "xaxis": across, "yaxis": down}
    lay_out(figure, said)
    return figure


def colour_axis(
    maps: Sequence[Rows], unit: str, middle: float | None = None, span: tuple[float, float] | None = None
) -> dict:
    """One colour scale for several maps."""
    bar = {"title": {"text": unit}, "thickness": 14}
    known = [v for z in maps for row in z for v in row if v is not None]
    if middle is None:
        low, high = span or (min(known, default=0.0), max(known, default=1.0))
        return {"colorscale": SEQUENTIAL, "cmin": low, "cmax": high, "colorbar": bar}
    reach = max((abs(v - middle) for v in known), default=0.0) or 1.0
    return {"colorscale": DIVERGING, "cmin": middle - reach, "cmax": middle + reach, "colorbar": bar}


def clickable(figure: go.Figure, x: list[float], y: list[float], data: list, text: list[str]) -> None:
    """Lay invisible points over cells, which carry the hover from now on and can be selected.

    Streamlit reports selected points of scatters, never cells of heatmaps.
    """
    hidden = {"marker": {"opacity": 0}}
    figure.data[0].update(hoverinfo="skip", hovertemplate=None, hovertext=None)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            customdata=data,
            text=text,
            marker={"opacity": 0, "size": 12},
            selected=hidden,
            unselected=hidden,
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.layout.hoverdistance = -1  # the nearest cell's point, however far its centre


def frame(left: float, top: float, right: float, bottom: float) -> dict:
    """A shape around what is picked, in a colour that neither colour scale has."""
    return {"type": "rect", "x0": left, "y0": top, "x1": right, "y1": bottom, "line": {"color": GREEN, "width": 3}}


def crossed(figure: go.Figure, cells: Sequence[tuple[float, float, float]], name: str, scale: str) -> None:
    """A cross on each cell (x, y, value), black or white, whichever stands out more from the cell's colour."""
    from plotly.colors import sample_colorscale

    low, high = figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax
    shares = [min(1.0, max(0.0, (v - low) / ((high - low) or 1.0))) for *_, v in cells]
    inks = [ink_on(colour) for colour in (sample_colorscale(scale, shares) if shares else [])]
    figure.add_scatter(
        x=[x for x, *_ in cells],
        y=[y for _, y, _ in cells],
        mode="markers",
        name=name,
        hoverinfo="skip",
        marker={"symbol": "x-thin", "size": 7, "line": {"color": inks, "width": 1.5}},
        showlegend=False,
    )


def _lines(title: str, panels: int) -> list[str]:
    """A title in lines that fit over one of so many panels."""
    return wrap(title, TITLE_ROOM // panels, break_long_words=False)


def _title(lines: list[str], panel: int) -> dict:
    """Above the middle of a panel."""
    return {
        "text": "<br>".join(lines),
        "x": panel * (1 + BETWEEN) + 0.5,
        "yref": "paper",
        "y": 1,
        "yanchor": "bottom",
        "yshift": 2,
        "showarrow": False,
        "font": {"size": 13},
    }


def _row_ticks(rows: list[str]) -> dict:
    step = -(-len(rows) // ROW_LABELS)
    return {"tickvals": list(range(0, len(rows), step)), "ticktext": rows[::step]}


def _brief(value: Number) -> Number:
    """As many digits as a colour and a hover can show, and more: with all of them half of a large map is digits."""
    return None if value is None else float(f"{value:.6g}")


def _number(value: Number, digits: int) -> str:
    return shown(value, digits=digits, none="no data")


def pooled(values: Sequence[Number], most: int) -> list[Number]:
    """At most `most` values: the largest of each run of neighbours, None where all are None."""
    n = len(values)
    cells = min(n, most)
    out: list[Number] = []
    for i in range(cells):
        known = [v for v in values[i * n // cells : (i + 1) * n // cells] if v is not None]
        out.append(max(known, default=None))
    return out


def pooled_map(z: Rows, rows: int, columns: int) -> list[list[Number]]:
    """A map of at most rows x columns cells, each the largest of what it stands for."""
    narrow = [pooled(row, columns) for row in z]
    tall = [pooled(column, rows) for column in zip(*narrow)]
    return [list(row) for row in zip(*tall)]


def pooled_edges(edges: list[int], most: int) -> list[int]:
    """Edges of the bins that `pooled` makes of len(edges) - 1 bins."""
    n = len(edges) - 1
    cells = min(n, most)
    return [edges[i * n // cells] for i in range(cells)] + [edges[-1]]
