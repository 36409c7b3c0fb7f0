"""What every figure shares: the `Picture`, its colours and its frame.

Colours are Okabe-Ito (told apart with every common colour blindness) without its black and yellow, which
vanish on a dark or a light page; maps are Cividis, or PuOr around a neutral middle. Backgrounds stay
transparent and no text colour is set, so the page's theme decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.bands.result import Band
from qroar_core.diagnostics.sample import Sample
from qroar_core.figures.distinct_traces import tell_apart
from qroar_core.figures.safe_html import harmless
from qroar_core.figures.ticks import plain_ticks

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, GREY = "#CC79A7", "#56B4E9", "#8A8A8A"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY)
SEQUENTIAL = "Cividis"
DIVERGING = "PuOr_r"
DASHES = ("solid", "dash", "dot", "dashdot")
HEIGHT = 380  # pixels
PAYLOAD_LIMIT = 2_000_000  # bytes of a figure's JSON


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A figure and its numbers. `title` says the question or the finding, without units."""

    title: str
    figure: go.Figure
    table: pd.DataFrame
    how_to_read: str
    sample: str = ""  # a sentence: what it was counted on

    def __post_init__(self) -> None:
        harmless(self.figure)
        tell_apart(self.figure)
        plain_ticks(self.figure)

    @property
    def alt(self) -> str:
        """Text for those who do not see the figure."""
        return f"{self.title}. {self.how_to_read}"


FROM_FREQUENCIES = "Computed from frequencies alone: no text was read."
FROM_WEIGHTS = "Computed from the weights alone: no text was read."
OLDER = "Computed by an older version, before this figure's definition was mended: diagnose again."


def counted_on(sample: Sample | None, estimates: bool = True) -> str:
    """The sentence under a figure of a diagnosis; a result without a sample is from an older version.

    Args:
        estimates: False: the figure shows nothing that was drawn at random and no error bar.
    """
    if sample is None:
        return OLDER
    return sample.sentence if estimates else sample.model_copy(update={"error": "", "seed": None}).sentence


def framed(
    figure: go.Figure,
    x: str,
    y: str,
    *,
    height: int = HEIGHT,
    log_x: bool = False,
    log_y: bool = False,
    legend: bool = True,
) -> go.Figure:
    """Axis titles with units, a legend above, no background of its own; returns `figure`."""
    layout = figure.layout.to_plotly_json()
    said: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 70, "r": 20, "t": 40 if legend else 16, "b": 56},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": legend,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        "hovermode": "closest",
    }
    for axis, title, log in (("xaxis", x, log_x), ("yaxis", y, log_y)):
        drawn: dict[str, Any] = {"title": {"text": title}, "type": "log" if log else None}
        drawn |= {"gridcolor": "rgba(138,138,138,0.25)", "zeroline": False}
        said |= {name: drawn for name in {axis, *(name for name in layout if name.startswith(axis))}}
    lay_out(figure, said)
    return figure


def lay_out(figure: go.Figure, said: Mapping[str, Any]) -> None:
    """As `update_layout`, all at once: Plotly sets one property after the other, which takes five times as long."""
    figure.layout = _merged(figure.layout.to_plotly_json(), said)


def _merged(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with what `new` says, also inside tables that both have."""
    return old | {
        key: _merged(old.get(key) or {}, value) if isinstance(value, Mapping) else value for key, value in new.items()
    }


def heatmap(
    z: Sequence[Sequence[float | None]],
    x: list[str],
    y: list[str],
    unit: str,
    *,
    middle: float | None = None,
    hover: str = "%{y}, %{x}: %{z:.3f}",
) -> go.Heatmap:
    """A map with its colour bar; around `middle` the scale is diverging and symmetric."""
    colours: dict = {"colorscale": SEQUENTIAL}
    if middle is not None:
        reach = max((abs(v - middle) for row in z for v in row if v is not None), default=0.0) or 1.0
        colours = {"colorscale": DIVERGING, "zmin": middle - reach, "zmax": middle + reach}
    return go.Heatmap(
        z=z,
        x=x,
        y=y,
        colorbar={"title": {"text": unit}, "thickness": 14},
        xgap=1,
        ygap=1,
        hovertemplate=hover + f" {unit}<extra></extra>",
        **colours,
    )


def map_height(rows: int) -> int:
    """Pixels for a map of `rows` rows: readable from 2 to 64."""
    return max(220, min(900, 120 + 24 * rows))


def band_names(bands: list[Band]) -> list[str]:
    """Axis labels of bands: index over first and last pair."""
    return [f"{band.index}<br>{band.first_pair}–{band.last_pair}" for band in bands]


def upright(figure: go.Figure, names: Sequence[str], panels: int) -> None:
    """Labels of bands stand upright with a letter's room between them in the narrowest figure.

    Where the pairs of all bands do not fit, every second one has them, or fewer; the indices are narrower. What is said
    of a mark under the mouse keeps the whole name.
    """
    for trace in figure.data:
        if "%{x}" in (trace.hovertemplate or ""):
            trace.update(customdata=list(names), hovertemplate=trace.hovertemplate.replace("%{x}", "%{customdata}"))
    indices = [name.partition("<br>")[0] for name in names]
    step = _every(indices, panels)
    pairs = step * -(-_every([name.partition("<br>")[2] for name in names], panels) // step)
    shown = range(0, len(names), step)
    figure.update_xaxes(
        tickmode="array",
        tickvals=[names[i] for i in shown],
        ticktext=[names[i] if i % pairs == 0 else indices[i] for i in shown],
        tickangle=0,
        tickfont={"size": 11},
    )


def _every(labels: Sequence[str], panels: int) -> int:
    """The step at which labels, each with a letter's room, fit side by side."""
    return -(-len(labels) * (max(map(len, labels)) + 1) * LETTER * panels // ACROSS)


def bin_names(edges: list[int]) -> list[str]:
    """Axis labels of position bins: first–last token."""
    return [f"{first}–{last - 1}" for first, last in zip(edges, edges[1:])]


LETTER, ACROSS = 6, 484  # pixels of a digit of a label, and of all panels of the narrowest figure
BAND_AXIS = "band (pairs first–last, fast to slow)"
POSITION_AXIS = "position, tokens"


def line_of(index: int) -> dict[str, str]:
    """Colour and dash of line `index`: no two of the first 28 are alike, in either theme."""
    return {"color": COLOURS[index % len(COLOURS)], "dash": DASHES[index // len(COLOURS) % len(DASHES)]}


def colour_of(index: int, count: int) -> str:
    """A colour for line `index` of `count` ordered lines: along Cividis, readable on dark and light."""
    from plotly.colors import sample_colorscale

    return sample_colorscale(SEQUENTIAL, [0.3 + 0.45 * index / max(1, count - 1)])[0]
