"""Do the diagnostics predict? What each band alone costs, and how well each diagnostic orders the bands by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.diagnostics.sample import Sample
from qroar_core.evidence.prediction.findings import prediction_verb
from qroar_core.evidence.prediction.result import Cost, Prediction, Rank
from qroar_core.figures.picture import (
    BAND_AXIS,
    BLUE,
    GREY,
    ORANGE,
    Picture,
    colour_of,
    counted_on,
    framed,
    heatmap,
    map_height,
)

COLUMNS = 4  # panels side by side
UNIT_ROOM = 20  # characters of a line under one of them
ROW, PANEL = 44, 250  # pixels of a diagnostic's row, of a row of panels
LEVELS = (
    ("by_band", "band by band, measured", BLUE, "circle", -0.14),
    ("by_cell", "by layer and band, estimated", ORANGE, "diamond", 0.14),
)
COST_AXIS = "cost of rounding alone, nats per token"


def forest(result: Prediction) -> Picture:
    """Spearman's rho of every diagnostic with the cost, at both grains, with intervals."""
    figure, rows = go.Figure(), []
    order = sorted(result.diagnostics, key=lambda d: d.baseline)
    for field, name, colour, symbol, aside in LEVELS:
        found = [(i, d, getattr(d, field)) for i, d in enumerate(order) if getattr(d, field) is not None]
        if not found:
            continue
        figure.add_scatter(
            x=[r.rho for _, _, r in found],
            y=[i + aside for i, _, _ in found],
            name=name,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 11},
            error_x=_bars([(r.rho, r.low, r.high) for _, _, r in found]),
            hovertext=[
                f"{d.words}, {name}: {prediction_verb(r)}<br>rho {_range(r)}, {r.points} points" for _, d, r in found
            ],
            hoverinfo="text",
        )
        rows += [
            {
                "diagnostic": d.words,
                "baseline": d.baseline,
                "level": name,
                "rho": r.rho,
                "low": r.low,
                "high": r.high,
                "points": r.points,
                "finding": prediction_verb(r),
            }
            for _, d, r in found
        ]
    framed(figure, "Spearman's rho with the cost", "", height=150 + ROW * len(order))
    names = [f"{d.words}<br><i>baseline</i>" if d.baseline else d.words for d in order]
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=names, range=[len(order) - 0.5, -0.5])
    figure.update_xaxes(range=[-1.05, 1.05])
    figure.update_layout(margin={"l": 170})
    figure.add_vline(x=0, line={"color": GREY, "width": 2})
    return Picture(
        result.headline,
        figure,
        pd.DataFrame(rows),
        "At +1 the diagnostic orders the bands exactly as their cost does, at 0 it is unrelated to it. A bar that "
        f"crosses 0 is not significant; bars are {result.confidence:.0%} intervals, each for itself: among seven "
        "unrelated numbers one seems to predict in about one of three cases. What reads only the frequencies is the "
        "same in every layer.",
        _beside_diagnosis(result),
    )


def costs(result: Prediction) -> Picture:
    """What each band alone costs, measured, with the estimate summed over layers beside it."""
    parts = result.parts
    figure = go.Figure()
    x = [_name(i, part) for i, part in enumerate(parts)]
    figure.add_bar(
        x=x,
        y=[p.nll for p in parts],
        name="measured: NLL above the reference",
        marker={"color": BLUE},
        error_y=_bars([(p.nll, p.low, p.high) for p in parts]) | {"color": GREY},
        hovertext=[f"{p.name}: {p.nll:+.5f} nats [{p.low:+.5f}, {p.high:+.5f}]" for p in parts],
        hoverinfo="text",
    )
    estimated = _summed(result)
    if estimated:
        figure.add_scatter(
            x=x[: len(estimated)],
            y=estimated,
            mode="markers",
            name="estimated: KL summed over layers",
            marker={"color": ORANGE, "symbol": "diamond", "size": 10},
            hovertemplate="%{y:.5f} nats<extra>estimated</extra>",
        )
    framed(figure, BAND_AXIS, COST_AXIS)
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    table = pd.DataFrame([p.model_dump(exclude={"pairs"}) | {"pairs": _pairs(p)} for p in [*parts, result.whole]])
    table["estimated_kl"] = [*estimated, *[None] * (len(table) - len(estimated))]
    share = f" Together {result.sum.ratio:.2f} times the cost of all at once" if result.sum.ratio else ""
    return Picture(
        f"What does each band cost when it alone is rounded?{share}",
        figure,
        table,
        f"Held-out text, {result.text}. The quantizer rounds the whole vector with the step it always has; outside the "
        f"band the values stay exact. Bars are {result.confidence:.0%} intervals, paired over windows.",
        counted_on(result.sample),
    )


def beside(result: Prediction) -> Picture:
    """Cost of every band against each diagnostic, one panel a diagnostic."""
    shown, bands = result.diagnostics, result.bands
    rows = math.ceil(len(shown) / COLUMNS)
    figure = make_subplots(
        rows,
        COLUMNS,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.34 / rows,
        subplot_titles=[f"{d.words}<br>{_rho(d.by_band)}" for d in shown],
    )
    colours = [colour_of(i, len(bands)) for i in range(len(bands))]
    framed(figure, "", "", height=90 + (PANEL + 60) * rows, legend=False)
    for at, d in enumerate(shown):
        row, column = at // COLUMNS + 1, at % COLUMNS + 1
        known = [(i, v, b) for i, (v, b) in enumerate(zip(d.bands, bands, strict=True)) if v is not None]
        figure.add_scatter(
            x=[v for _, v, _ in known],
            y=[b.nll for _, _, b in known],
            mode="markers+text",
            row=row,
            col=column,
            text=[str(i) for i, _, _ in known],
            textposition="top center",
            textfont={"size": 11},
            marker={"size": 9, "color": [colours[i] for i, _, _ in known], "line": {"color": GREY, "width": 1}},
            error_y=_bars([(b.nll, b.low, b.high) for _, _, b in known]) | {"color": GREY, "thickness": 1, "width": 0},
            hovertext=[
                f"{b.name}, pairs {_pairs(b)}<br>{d.words} {v:.4g} {d.unit}<br>cost {b.nll:+.5f} nats "
                f"[{b.low:+.5f}, {b.high:+.5f}]"
                for _, v, b in known
            ],
            hoverinfo="text",
        )
        figure.update_xaxes(title={"text": "<br>".join(wrap(d.unit, UNIT_ROOM)), "standoff": 4}, row=row, col=column)
        if column == 1:
            figure.update_yaxes(title_text="cost, nats per token", row=row, col=column)
    figure.update_layout(margin={"t": 60})
    figure.update_annotations(font_size=12)
    return Picture(
        "Does a band with a higher diagnostic cost more?",
        figure,
        pd.DataFrame(
            [
                {"band": b.name, "pairs": _pairs(b), "cost": b.nll, "low": b.low, "high": b.high}
                | {f"{d.words}, {d.unit}": d.bands[i] for d in shown}
                for i, b in enumerate(bands)
            ]
        ),
        "One panel a diagnostic, one point a band (its number above it; dark fast, light slow): to the right more of "
        "the diagnostic, upwards a higher cost. A diagnostic that predicts shows a cloud rising to the right.",
        _beside_diagnosis(result),
    )


def by_cell(result: Prediction) -> Picture | None:
    """The estimated map by layer and band; None where it was not asked."""
    if not result.kl:
        return None
    numbers = result.decoder_layers or range(len(result.kl))  # what people call these layers
    known = [(v, i, b) for i, row in zip(numbers, result.kl, strict=True) for b, v in enumerate(row) if v is not None]
    worst, layer, band = max(known)
    share = worst / math.fsum(v for v, _, _ in known)
    figure = go.Figure(
        heatmap(
            [[None if v is None else 1e3 * v for v in row] for row in result.kl],
            [_name(b, part) for b, part in enumerate(result.bands)],
            [f"layer {i}" for i in numbers],
            "nats / 1000",
        )
    )
    framed(figure, BAND_AXIS, "", height=map_height(len(result.kl)), legend=False)
    figure.update_yaxes(autorange="reversed")
    return Picture(
        f"Where does rounding cost most? In layer {layer}, band {band}: {share:.0%} of all cells together",
        figure,
        pd.DataFrame([{"layer": i, "band": b, "kl_nats": v} for v, i, b in known]),
        f"KL to the reference that rounding this layer's band alone would cause, to second order, from "
        f"{result.kl_windows} backward passes over {result.kl_length} tokens: an estimate, no measurement.",
        counted_on(
            None
            if result.sample is None
            else Sample(tokens=result.kl_windows * result.kl_length, windows=result.kl_windows, seed=result.sample.seed)
        ),
    )


def _beside_diagnosis(result: Prediction) -> str:
    """What the costs were counted on, and the diagnostics: one of them may be from an older version."""
    if result.sample is None:
        return counted_on(None)
    return f"Costs: {counted_on(result.sample)} Diagnostics: {counted_on(result.diagnosis_sample)}"


def _summed(result: Prediction) -> list[float]:
    return [math.fsum(v for v in column if v is not None) for column in zip(*result.kl)]


def _bars(found: Sequence[tuple[float, float, float]]) -> dict:
    """Plotly's error bars of (value, low, high)."""
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1.5,
        "width": 5,
        "array": [high - value for value, _, high in found],
        "arrayminus": [value - low for value, low, _ in found],
    }


def _name(index: int, part: Cost) -> str:
    return "unrotated" if part.pairs is None else f"{index}<br>{_pairs(part)}"


def _pairs(part: Cost) -> str:
    return "" if part.pairs is None else f"{part.pairs[0]}–{part.pairs[1]}"


def _rho(found: Rank | None) -> str:
    return "cannot be ranked" if found is None else f"ρ {_range(found)}"


def _range(found: Rank) -> str:
    return f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def pictures(result: Prediction) -> list[Picture]:
    """All of them, the answer first."""
    drawn = [forest(result), beside(result), costs(result), by_cell(result)]
    return [picture for picture in drawn if picture is not None]
