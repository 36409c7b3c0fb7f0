"""Dynamic range by position: what a uniform quantizer loses when range grows with the context."""

from __future__ import annotations

from statistics import fmean

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.tail_inflation.figure import worst_cell
from qroar_core.figures.heatmaps import Panel, column_at, crossed, side_by_side
from qroar_core.figures.picture import BLUE, GREY, POSITION_AXIS, SEQUENTIAL, Picture, bin_names, counted_on, framed
from qroar_core.statistics.chance import ENOUGH, LEVEL, furthest_out, stands_out, too_few
from qroar_core.statistics.digits import HOVER, LARGEST

NULL = "null: tokens assigned to bins at random"


def by_position(diagnosis: Diagnosis, layer: int) -> Picture:
    """K's largest absolute value after RoPE, band by position bin, in one layer; bits lost in the hover."""
    seen, null = diagnosis.dilation, diagnosis.dilation.null
    bins = bin_names(diagnosis.position_edges)
    rows = [f"band {b.index}" for b in diagnosis.bands]
    panel = Panel("", seen.absmax[layer], bins, POSITION_AXIS, "positions", LARGEST)
    figure = side_by_side([panel], rows, "|k|")
    figure.update_traces(
        customdata=seen.bits_lost[layer],
        hovertemplate="%{hovertext} |k|<br>%{customdata:+.2f} bits lost<extra></extra>",
    )
    table = pd.DataFrame(
        [
            {
                "layer": diagnosis.layer_number(layer),
                "band": b.index,
                "positions": name,
                "absmax": seen.absmax[layer][b.index][i],
                "rms": seen.rms[layer][b.index][i],
                "bits_lost": seen.bits_lost[layer][b.index][i],
            }
            | {f"quantile_{q}": values[layer][b.index][i] for q, values in seen.quantiles.items()}
            | {"quantile_relative_bound": seen.quantile_bound}
            | {
                f"absmax_null_{end}": getattr(null, f"absmax_{end}")[layer][b.index] if null else None
                for end in ("low", "high")
            }
            for b in diagnosis.bands
            for i, name in enumerate(bins)
        ]
    )
    if null is not None:
        low, high = null.absmax_low[layer], null.absmax_high[layer]
        inside = [
            (column_at(0, i, len(bins)), band, v)
            for band, row in enumerate(seen.absmax[layer])
            for i, v in enumerate(row)
            if v is not None and _within(v, low[band], high[band])
        ]
        crossed(figure, inside, NULL, SEQUENTIAL)
    return Picture(
        f"How large do keys get by position? (layer {diagnosis.layer_number(layer)}{_lost(diagnosis, layer)})",
        figure,
        table,
        "Largest |k| after RoPE over the layer's KV heads. Bits lost: log2 of that range over the short "
        "context's, the resolution that a quantizer with one step for all positions loses. In the table rms and "
        f"quantiles are over all KV heads, quantiles within {seen.quantile_bound:.1%} of their value. "
        f"{_reading(diagnosis, 'A cross marks cells inside the null')}{_decided(diagnosis)}",
        counted_on(seen.sample),
    )


def of_band(diagnosis: Diagnosis, layer: int, band: int) -> Picture:
    """One row of the map as a curve, with the range that bins have when tokens are dealt to them at random."""
    seen, null, edges = diagnosis.dilation, diagnosis.dilation.null, diagnosis.position_edges
    middle = [(first + last - 1) / 2 for first, last in zip(edges, edges[1:])]
    values = seen.absmax[layer][band]
    figure = go.Figure()
    outside: list[int] = []
    under: list[int] = []  # a range that shrinks loses no bits
    if null is not None:
        low, high = null.absmax_low[layer][band], null.absmax_high[layer][band]
        figure.add_scatter(
            x=[*middle, *middle[::-1]],
            y=[high] * len(middle) + [low] * len(middle),
            fill="toself",
            mode="lines",
            line={"color": GREY, "width": 0},
            name=NULL,
            hoverinfo="skip",
        )
        outside = [i for i, v in enumerate(values) if v is not None and not _within(v, low, high)]
        under = [i for i in outside if low is not None and (values[i] or 0.0) < low]
    figure.add_scatter(
        x=middle,
        y=values,
        mode="lines+markers",
        name="largest |k|",
        line={"color": BLUE, "width": 2.5},
        hovertemplate="%{x:,.0f}: %{y:" + HOVER + "}<extra></extra>",
    )
    framed(figure, POSITION_AXIS, "largest |k|", legend=True)
    table = pd.DataFrame(
        {
            "positions": bin_names(edges),
            "absmax": values,
            "bits_lost": seen.bits_lost[layer][band],
            "outside_null": [i in outside for i, _ in enumerate(values)],
        }
    )
    where = f"layer {diagnosis.layer_number(layer)}, band {band}"
    chance = _outside_by_chance(diagnosis)
    below = f", {len(under)} of them below it" if under else ""
    found = (
        "Range of keys by position"
        if null is None
        else (
            f"{len(outside)} of {len(values)} position bins lie outside the null{below} ({chance:.1f} by chance)"
            if outside
            else "No position bin lies outside the null"
        )
    )
    return Picture(
        f"{found} ({where})",
        figure,
        table,
        "Largest |k| after RoPE over the layer's KV heads in each position bin. "
        f"{_reading(diagnosis, 'The grey band is the null')}",
        counted_on(seen.sample),
    )


def _outside_by_chance(diagnosis: Diagnosis) -> float:
    """Bins of one layer and band that lie outside the range of all bins of all draws though position means nothing.

    A bin and the drawn ones are then alike, so that each of them is as likely the largest, or the least, of all.
    """
    null, bins = diagnosis.dilation.null, len(diagnosis.position_edges) - 1
    return 0.0 if null is None else 2 * bins / (1 + bins * len(null.largest))


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    return value is not None and low is not None and high is not None and low <= value <= high


def _lost(diagnosis: Diagnosis, layer: int) -> str:
    """Whether a band of a layer loses more bits than where tokens are dealt at random, and how many."""
    seen, null = diagnosis.dilation, diagnosis.dilation.null
    bands = [max((v for v in row if v is not None), default=None) for row in seen.bits_lost[layer]]
    worst = max((v for v in bands if v is not None), default=None)
    if worst is None:
        return ""
    whole = [v for row in (null.largest if null else []) if (v := row[layer]) is not None]
    if not whole:
        return f", up to {worst:.2f} bits lost"
    by_band = [row[layer] for row in null.lost] if null else []
    found = stands_out(bands, by_band) if by_band else stands_out([worst], [[v] for v in whole])
    if found and by_band:
        band = furthest_out(bands, by_band)
        drawn = fmean(v for row in by_band if (v := row[band]) is not None)
        return f", band {band} loses up to {bands[band]:.2f} bits, {drawn:.2f} with random bins"
    dealt = f"{fmean(whole):.2f} with random bins"
    if found is None:
        return f", up to {worst:.2f} bits lost, {dealt}: {too_few(len(whole))}"
    if found:
        return f", up to {worst:.2f} bits lost, {dealt}"
    return f", no more bits lost than by chance: up to {worst:.2f}, {dealt}"


def _reading(diagnosis: Diagnosis, first: str) -> str:
    """What the null is, in one sentence."""
    if diagnosis.dilation.null is None:
        return "This file holds no null."
    return (
        f"{first}: the ranges of bins when tokens are assigned to them at random, so that position means nothing. "
        f"By chance {_outside_by_chance(diagnosis):.1f} of {len(diagnosis.position_edges) - 1} bins of a band lie "
        "outside it."
    )


def _decided(diagnosis: Diagnosis) -> str:
    """How the title answers whether bits are lost."""
    null = diagnosis.dilation.null
    if null is None or len(null.largest) < ENOUGH:
        return ""
    return (
        f" The title reports lost bits where a band's most, in standard deviations of its null, exceeds every "
        f"band's in {1 - LEVEL:.0%} of {len(null.largest)} draws; at most {LEVEL:.0%} of titles do by chance."
    )


def _where_tails_grow_most(diagnosis: Diagnosis) -> list[Picture | None]:
    _, layer, _, band = worst_cell(diagnosis)
    return [by_position(diagnosis, layer), of_band(diagnosis, layer, band)]


FIGURES = {"dilation": _where_tails_grow_most}
