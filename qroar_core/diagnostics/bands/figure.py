"""The table of bands, and the figure above it: what rounding each band alone does to the logits."""

from __future__ import annotations

import math
from statistics import fmean

import pandas as pd
from plotly.subplots import make_subplots

from qroar_core.diagnostics.band_labels import FIRST, SPANS, WITHIN, band_name, digits, span
from qroar_core.diagnostics.band_table import BandRow, band_table
from qroar_core.diagnostics.bands.result import BandCost, uneven
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.figures.by_group import Draw
from qroar_core.figures.picture import BAND_AXIS, BLUE, GREY, ORANGE, Picture, band_names, counted_on, framed, upright
from qroar_core.result import LayerBand
from qroar_core.statistics.chance import ENOUGH, LEVEL, stands_out, too_few

COLOUR = {"int8": BLUE, "int4": ORANGE}
NULL = "null: channels assigned to bands at random"
EVEN = "No band makes more logit noise alone than as many channels at random"
UNKNOWN = "What does each band do to the logits when it alone is rounded?"


def table(diagnosis: Diagnosis, prediction: Prediction | None = None) -> pd.DataFrame:
    """`Diagnosis.band_table` as a frame; numbers that are missing are NaN."""
    rows = [row.model_dump() for row in band_table(diagnosis, prediction)]
    frame = pd.DataFrame(rows, columns=list(BandRow.model_fields))
    whole = ["band", "first_pair", "last_pair"]
    floats = [name for name in frame if name not in ("layers", *whole)]
    return frame.astype({name: float for name in floats} | {name: "Int64" for name in whole})


def titles() -> dict[str, str]:
    """Column -> what stands above it, with its unit."""
    return {name: field.title or name for name, field in BandRow.model_fields.items()}


def short_titles() -> dict[str, str]:
    """The same of the shortened table."""
    return titles() | {"band": "band (pairs)"} | {near: words for near, (words, _) in SPANS.items()}


def helps() -> dict[str, str]:
    """Column -> what it is."""
    return {name: field.description or "" for name, field in BandRow.model_fields.items()}


def shortened(diagnosis: Diagnosis, prediction: Prediction | None = None) -> dict[str, list[str]]:
    """Column -> words in its cells: several columns as one, digits as the sample supports; the frame keeps numbers."""
    rows = band_table(diagnosis, prediction)
    spans = {near: [span(getattr(row, near), getattr(row, far)) for row in rows] for near, (_, far) in SPANS.items()}
    rest = [name for name in BandRow.model_fields if name not in ("layers", "band", *SPANS, *WITHIN)]
    exact = {name: [digits(row, name) for row in rows] for name in rest}
    return {"band": [band_name(row) for row in rows]} | spans | exact


def order(frame: pd.DataFrame) -> list[str]:
    """The columns that are shown: what a reader wants first, without those that others say and the unknown ones."""
    known = [name for name in frame if frame[name].notna().any()]
    layers = ["layers"] if frame["layers"].nunique() > 1 else []
    rest = [name for name in known if name not in ("layers", *FIRST, *WITHIN)]
    return [*layers, *(name for name in FIRST if name in known), *rest]


def sample(diagnosis: Diagnosis) -> str:
    """What the table was counted on; a file of an older version says that it is one."""
    shown = diagnosis.band_cost.sample if diagnosis.band_cost else None
    if shown is not None:
        shown = shown.model_copy(update={"error": shown.error.rpartition("; ")[2]})  # a table draws no bars
    errors = [diagnosis.pair_error, *(group.pair_error for group in diagnosis.groups)]
    older = next((one.older for one in errors if one is not None and one.older), "")
    return counted_on(shown) + (f" Amplitude and phase errors:{older}" if older else "")


def alone(diagnosis: Diagnosis, prediction: Prediction | None = None) -> Picture | None:
    """Logit noise of every band rounded alone, beside its null. None for a file from before this was measured."""
    cost = diagnosis.band_cost
    if cost is None:
        return None
    names = band_names(diagnosis.bands)
    figure = make_subplots(1, len(cost.noise), horizontal_spacing=0.12)
    for col, (probe, layers) in enumerate(cost.noise.items(), 1):
        known = cost.noise_error
        error = {"type": "data", "array": known[probe], "color": GREY} if known else None
        figure.add_bar(
            x=names,
            y=_pooled([row[:-1] for row in layers]),
            name=f"{probe} alone",
            row=1,
            col=col,
            error_y=error,
            marker={"color": COLOUR.get(probe, GREY)},
            hovertemplate=f"%{{y:.4g}} nats<extra>{probe} alone</extra>",
        )
        if probe in cost.null:
            figure.add_scatter(
                x=names,
                y=_null(cost, probe),
                name=NULL,
                legendgroup=NULL,
                showlegend=col == 1,
                row=1,
                col=col,
                mode="lines+markers",
                line={"color": GREY, "dash": "dot"},
                hovertemplate=f"%{{y:.4g}} nats<extra>null, {probe}</extra>",
            )
    framed(figure, BAND_AXIS, "RMS logit error, nats")
    upright(figure, names, len(cost.noise))
    return Picture(
        _finding(cost),
        figure,
        table(diagnosis, prediction),
        "K is rounded per token and KV head, then all but one band is made exact again; each bar is the root mean "
        "square over the layers with RoPE. The null assigns the same channels, with their errors, to the bands at "
        "random: a band on its line costs what any channels of that number would cost." + _decided(cost),
        counted_on(cost.sample),
    )


def _finding(cost: BandCost) -> str:
    """Names the loudest band under the coarsest probe where bands of random channels are seldom as uneven."""
    probe = next(reversed(cost.noise))
    layers = [row[:-1] for row in cost.noise[probe]]
    measured = uneven(layers)
    drawn = [found for draw in cost.null.get(probe, []) if (found := uneven(draw)) is not None]
    if measured is None or not drawn:
        return UNKNOWN
    found = stands_out([measured], [[one] for one in drawn])
    if found is False:
        return EVEN
    pooled = _pooled(layers)
    loudest = max(range(len(pooled)), key=lambda b: pooled[b] or 0.0)
    chance = f"{measured:.2f} times the RMS of all bands, {fmean(drawn):.2f} by chance"
    if found is None:
        return f"{UNKNOWN} Most in band {loudest}, {chance}: {too_few(len(drawn))}"
    return f"Band {loudest} alone makes the most logit noise: {chance}"


def _decided(cost: BandCost) -> str:
    """How the title answers whether a band is louder than chance."""
    draws = len(cost.null.get(next(reversed(cost.noise)), []))
    if draws < ENOUGH:
        return ""
    return (
        f" The title names a band where the loudest is further above the RMS of all than in {1 - LEVEL:.0%} of "
        f"{draws} such draws; at most {LEVEL:.0%} of titles do by chance."
    )


def _null(cost: BandCost, probe: str) -> list[float | None]:
    """Mean over draws of each band's noise."""
    draws = [_pooled(draw) for draw in cost.null[probe]]
    columns = ([v for v in column if v is not None] for column in zip(*draws))
    return [fmean(column) if column else None for column in columns]


def _pooled(layers: LayerBand) -> list[float | None]:
    """RMS over layers."""
    columns = ([v for v in column if v is not None] for column in zip(*layers))
    return [math.sqrt(math.fsum(v * v for v in column) / len(column)) if column else None for column in columns]


FIGURES: dict[str, Draw] = {"band_cost": lambda diagnosis: [alone(diagnosis)]}
