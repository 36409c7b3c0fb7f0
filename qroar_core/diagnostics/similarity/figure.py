"""How far hidden states drift from the reference, layer by layer and position by position, and where it comes from."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.similarity import figure_words as words
from qroar_core.diagnostics.similarity.result import Accumulation, HiddenSimilarity
from qroar_core.figures.by_group import Draw
from qroar_core.figures.heatmaps import Panel, side_by_side
from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, POSITION_AXIS, Picture, bin_names, counted_on, framed
from qroar_core.result import Number
from qroar_core.statistics.digits import shown

NULL = "null: rows shuffled over positions"


def hidden_states(diagnosis: Diagnosis) -> Picture | None:
    """SQNR of each layer's output by position, beside what each layer shows with its rows shuffled."""
    seen = diagnosis.hidden
    if seen is None:
        return None
    bins = bin_names(diagnosis.position_edges)
    panels = [Panel("", seen.sqnr_db, bins, POSITION_AXIS, "positions")]
    if seen.layer_sqnr_db:
        null = [[value] * len(bins) for value in seen.layer_sqnr_db]
        panels = [
            Panel("measured", seen.sqnr_db, bins, POSITION_AXIS, "positions"),
            Panel(NULL, null, bins, POSITION_AXIS, "positions"),
        ]
    return Picture(
        f"How far do the hidden states drift from the reference?{words.none(seen)}",
        side_by_side(panels, diagnosis.layer_names(), "dB"),
        _table(diagnosis, seen, bins),
        f"{words.MEANING} The right map is the null, one value a layer: what its bins show when its rows are shuffled "
        f"over positions.{words.of_cosine(seen)}"
        if seen.layer_sqnr_db
        else words.OLDER_MEANING,
        counted_on(seen.sample),
    )


def by_position(diagnosis: Diagnosis) -> Picture | None:
    """The last layer's SQNR by position with its standard error and its null. None in an older file."""
    seen = diagnosis.hidden
    if seen is None or not seen.null_low:
        return None
    bins = bin_names(diagnosis.position_edges)
    layer = diagnosis.layer_names()[-1]
    figure = go.Figure()
    _band(figure, bins, seen.null_low[-1], words.drawn_ends(seen.null_high[-1]), NULL)
    above, below = _bars(seen.sqnr_db[-1], seen.sqnr_low[-1], words.drawn_ends(seen.sqnr_high[-1], seen.sqnr_db[-1]))
    figure.add_scatter(
        x=bins,
        y=seen.sqnr_db[-1],
        mode="lines+markers",
        name=layer,
        line={"color": ORANGE},
        error_y={"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": ORANGE},
        hovertemplate="positions %{x}: %{y:.1f} dB<extra></extra>",
    )
    framed(figure, POSITION_AXIS, "signal over error of the layer's output (SQNR), dB")
    figure.update_xaxes(nticks=8, tickangle=0)
    without_end = words.is_open(seen)
    if without_end:
        figure.update_yaxes(range=words.closed_axis(seen))
    known = [i for i, v in enumerate(seen.sqnr_db[-1]) if v is not None]
    found = words.none(seen) or words.drift(seen, known[-1] if known else None)
    return Picture(
        f"Does the output of {layer} drift further with position?{found}",
        figure,
        _table(diagnosis, seen, bins),
        f"{words.MEANING} The grey band is the null: where a bin of as many rows falls when the layer's rows are "
        f"shuffled over positions.{words.OPEN * without_end}{words.of_cosine(seen)}",
        counted_on(seen.sample),
    )


def accumulation(diagnosis: Diagnosis) -> Picture | None:
    """Each layer's output error: what it inherits and what it adds. None without a quantizer, or in an older file."""
    seen = diagnosis.hidden
    if seen is None or seen.accumulation is None:
        return None
    parts, layers = seen.accumulation, [diagnosis.layer_number(i) for i in range(len(seen.accumulation.added))]
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    whole = parts.whole()
    for name, values, colour in (
        ("whole error", whole, GREEN),
        ("inherited", parts.inherited, BLUE),
        ("added", parts.added, ORANGE),
    ):
        figure.add_scatter(
            x=layers,
            y=[v or None for v in values],
            name=name,
            mode="lines+markers",
            line={"color": colour},
            row=1,
            col=1,
            hovertemplate=f"layer %{{x}}, {name}: %{{y:.3g}}<extra></extra>",
        )
    figure.add_scatter(
        x=layers,
        y=parts.share_added,
        name="share added",
        mode="lines+markers",
        row=1,
        col=2,
        line={"color": ORANGE, "dash": "dash"},
        error_y={"type": "data", "array": parts.share_added_error, "color": ORANGE},
        hovertemplate="layer %{x}, share added: %{y:.3f}<extra></extra>",
    )
    figure.add_scatter(
        x=layers,
        y=parts.share_null(),
        name="null: every layer adds the same",
        mode="lines",
        row=1,
        col=2,
        line={"color": GREY, "dash": "dot"},
    )
    off = parts.cross_share_null()
    _band(figure, layers, [None if v is None else -v for v in off], off, "null: added at random", col=2)
    figure.add_scatter(
        x=layers,
        y=parts.cross_share(),
        name="cross term",
        mode="lines+markers",
        row=1,
        col=2,
        line={"color": BLUE, "dash": "dash"},
        hovertemplate="layer %{x}, cross term: %{y:.3f}<extra></extra>",
    )
    framed(figure, "layer", "")
    figure.update_yaxes(title_text="error energy over the reference's", type="log", row=1, col=1)
    figure.update_yaxes(title_text="share of added + inherited", row=1, col=2)
    loudest = max(range(len(layers)), key=lambda i: parts.added[i] or 0.0)
    share, error = parts.share_added[loudest], parts.share_added_error[loudest]
    percent = "" if share is None else shown(100 * share, 100 * error if error else None, digits=2)
    between = " Layers without attention count with the next one shown." if diagnosis.decoder_layers else ""
    return Picture(
        "Where does the error of the hidden states come from? "
        + (f"Layer {layers[loudest]} adds most" if parts.added[loudest] else "There is none")
        + ("" if share is None or not parts.added[loudest] else f", {percent}% of what it adds and inherits together"),
        figure,
        _parts_table(layers, parts, whole),
        "Left: the error that enters a layer (inherited), what the layer changes in it (added) and the whole, over the "
        f"energy of the reference's output.{between} Right: added over added plus inherited. The two parts do not "
        "add up exactly: the cross term is what is missing, and below zero the layer cancels part of the earlier "
        "error. Nulls: every layer adds the same energy "
        "(dotted line), or the sign of what is added is drawn for each row (band around zero).",
        counted_on(seen.sample),
    )


def _bars(middle: list[Number], low: list[Number], high: list[Number]) -> tuple[list[Number], list[Number]]:
    """How far the bars reach up and down."""

    def length(a: Number, b: Number) -> Number:
        return None if a is None or b is None else a - b

    return [length(h, m) for h, m in zip(high, middle)], [length(m, w) for m, w in zip(middle, low)]


def _band(figure: go.Figure, x: list, low: list[Number], high: list[Number], name: str, col: int | None = None) -> None:
    place = {} if col is None else {"row": 1, "col": col}
    line = {"color": GREY, "dash": "dot", "width": 1}
    figure.add_scatter(
        x=x, y=low, mode="lines", line=line, showlegend=False, legendgroup=name, hoverinfo="skip", name=name, **place
    )
    figure.add_scatter(
        x=x,
        y=high,
        mode="lines",
        line=line,
        fill="tonexty",
        fillcolor="rgba(138,138,138,0.2)",
        legendgroup=name,
        hoverinfo="skip",
        name=name,
        **place,
    )


def _table(diagnosis: Diagnosis, seen: HiddenSimilarity, bins: list[str]) -> pd.DataFrame:
    extra = {
        "low_db": seen.sqnr_low,
        "high_db": seen.sqnr_high,
        "null_low_db": seen.null_low,
        "null_high_db": seen.null_high,
        "pooled_db": seen.pooled_sqnr_db,
        "null_cosine": seen.cosine_null,
        "null_cosine_low": seen.cosine_null_low,
        "null_cosine_high": seen.cosine_null_high,
    }
    return pd.DataFrame(
        [
            {"layer": diagnosis.layer_number(i), "positions": bins[j], "sqnr_db": value, "cosine": seen.cosine[i][j]}
            | {name: values[i][j] for name, values in extra.items() if values}
            for i, row in enumerate(seen.sqnr_db)
            for j, value in enumerate(row)
        ]
    )


def _parts_table(layers: list[int], parts: Accumulation, whole: list[Number]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": layers,
            "error": whole,
            "inherited": parts.inherited,
            "added": parts.added,
            "cross": parts.cross,
            "share_added": parts.share_added,
            "share_added_2se": parts.share_added_error,
            "null_share_added": parts.share_null(),
            "cross_share": parts.cross_share(),
            "null_cross_share_2se": parts.cross_share_null(),
        }
    )


FIGURES: dict[str, Draw] = {
    "hidden_states": lambda diagnosis: [hidden_states(diagnosis), by_position(diagnosis)],
    "error_accumulation": lambda diagnosis: [accumulation(diagnosis)],
}
