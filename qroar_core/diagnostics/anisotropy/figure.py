"""Axis-aligned quantizers against turning pairs: does the error depend on the angle?"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.anisotropy.result import (
    BLIND_NOISE,
    OTHER_LAYER,
    SAME_VECTOR,
    SCALED,
    SWAPPED,
    Anisotropy,
)
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import each_group
from qroar_core.figures.picture import GREY, Picture, colour_of, counted_on, framed
from qroar_core.result import LayerBand
from qroar_core.statistics.digits import within

ERRORS = 2  # standard errors that the mean over layers and bands must be above the null
NULL_LINE = dict.fromkeys((SWAPPED, OTHER_LAYER, SAME_VECTOR), "null: errors of other pairs") | {
    BLIND_NOISE: "null: noise that does not depend on the angle"
}
NULL_MEANING = {
    SWAPPED: "The null (grey, dotted) gives each pair the error of another pair of its band in another KV head: it "
    "knows nothing of the angle, and repeats where tokens repeat. ",
    OTHER_LAYER: "The null (grey, dotted) gives each pair the error of another pair of its band in another layer at "
    "the same token, as there is one KV head: it does not depend on the angle, and repeats where tokens repeat. ",
    SAME_VECTOR: "The null (grey, dotted) gives each pair the error of another pair of its band in the same vector, as "
    "there is one KV head: a pair that sets its vector's step may show in it. ",
    BLIND_NOISE: "The null (grey, dotted) is normal noise as large as the rounding's, drawn anew at the same pairs. "
    "Equal tokens have equal errors, so chance reaches further than this null shows. ",
}
LEVEL = "Errors so given are scaled to the pair's own mean, so that a pair that errs more is not taken for its angle. "
NO_LEVEL = (
    "This file is from before 2026-11-29: its null does not keep each pair's own mean error, so that a pair that errs "
    "more may be taken for its angle. "
)
OVER = {
    "step": "squared error of a pair over its squared step",
    "error": "squared error of a pair over its vector's mean squared error",
    None: "mean squared error of the pair",  # an older file
}
OWN_AXES = (
    "The setup's cache rounds K before RoPE, so these are its quantizer's axes; what RoPE does to a pair afterwards "
    "turns its error with it. Activations that are rounded too are so after RoPE, on other axes. "
)
OTHER_AXES = (
    "The setup rounds K before RoPE, on other axes, and this file is from before 2026-11-30: how its error depends "
    "on the angle there does not show here; diagnose again. "
)
LONE = (
    "For {lone:,} of {pairs:,} pairs the other pair has no error at all: theirs are rounding errors drawn at random, "
    "as many at each angle as the pair has there. "
)
NO_NULL = " There is no null: with one RoPE pair a head there is no other pair whose error could be taken."
NORMALISED = {
    "step": "Each pair's error is divided by the squared step it was rounded with (mean of its two coordinates; behind "
    "a Hadamard rotation that of its vector; of 8-bit floats the distance between levels). ",
    "error": "The error includes that of weights or activations, which have no step on K, also where a cache rounds K "
    "too. So each pair's is divided by the mean squared error of its head's vector at that token, not by a step. ",
    None: "",
}


def by_angle(diagnosis: Diagnosis) -> Picture | None:
    """Error energy of a K pair by its angle on the axes, one line a band. None when K is not quantized."""
    seen = diagnosis.anisotropy
    if seen is None:
        return None
    degrees = [math.degrees(a) for a in seen.angle]
    figure = go.Figure()
    for band, error in enumerate(seen.error):
        figure.add_scatter(
            x=degrees,
            y=error,
            mode="lines",
            name=f"band {band}",
            line={"color": colour_of(band, len(seen.error))},
            hovertemplate=f"band {band}, %{{x:.0f}}°: %{{y:.4g}}<extra></extra>",
        )
    beside = [] if seen.null is None else [(seen.null.control, error) for error in seen.null.error]
    for band, (control, error) in enumerate(beside):
        figure.add_scatter(
            x=degrees,
            y=error,
            mode="lines",
            name=NULL_LINE.get(control.removesuffix(SCALED), "null"),
            legendgroup="null",
            showlegend=band == 0,
            line={"color": GREY, "dash": "dot", "width": 1},
            hovertemplate=f"null of band {band}, %{{x:.0f}}°: %{{y:.4g}}<extra></extra>",
        )
    framed(figure, "angle of the pair from its first axis, degrees", OVER[seen.over])
    figure.update_yaxes(rangemode="tozero")
    table = pd.DataFrame(
        [
            {
                "band": band,
                "angle_degrees": degrees[i],
                "error": error,
                "null": seen.null.error[band][i] if seen.null else None,
            }
            for band, errors in enumerate(seen.error)
            for i, error in enumerate(errors)
        ]
    )
    return Picture(_title(seen), figure, table, _how_to_read(diagnosis, seen), counted_on(seen.sample))


def _title(seen: Anisotropy) -> str:
    where = " before RoPE" if seen.angle_before_rope else " after RoPE" * seen.before_rope
    question = f"Does a pair's error depend on its angle{where}?"
    typical, null = seen.typical, seen.null_typical
    if typical is None:
        return f"{question} Too few pairs to decide"
    if null is None:
        return f"{question} Worst over best angle: up to {seen.largest:.1f}"
    found = seen.above_null()
    if found is None:
        return f"{question} Too few layers and bands to decide: worst over best {typical:.2f}, null {null:.2f}"
    above, error = found
    answer = "Yes" if above > ERRORS * error else "Not more than by chance"
    return f"{question} {answer}: worst over best {typical:.2f}, null {null:.2f}, difference {within(above, error)}"


def _how_to_read(diagnosis: Diagnosis, seen: Anisotropy) -> str:
    if seen.null is None:
        reason = "" if seen.sample is None else NO_NULL
        return f"A flat line is an isotropic quantizer. RoPE turns a pair, so its error changes along the text.{reason}"
    control = seen.null.control.removesuffix(SCALED)
    lone = seen.null.control == SWAPPED and diagnosis.n_kv_heads == 1  # a file from before `OTHER_LAYER`
    meaning = NULL_MEANING.get(SAME_VECTOR if lone else control, "")
    if seen.null.lone:
        meaning += LONE.format(lone=seen.null.lone, pairs=seen.null.pairs)
    if control != BLIND_NOISE:
        meaning += LEVEL if control != seen.null.control else NO_LEVEL
    return (
        f"Error by where K's pairs stand {'before' if seen.angle_before_rope else 'after'} RoPE, from 0° (all on the "
        f"first axis) to 90° (all on the second). {_axes(seen)}{NORMALISED[seen.over]}"
        f"A flat line does not depend on the angle. {meaning}"
        "Lines are means over layers; the title gives means over layers and bands, and answers yes where the "
        f"difference is more than {ERRORS} standard errors above 0; ± is one standard error, over layers and bands."
        f"{_largest(diagnosis, seen, seen.null.ratio)}"
    )


def _axes(seen: Anisotropy) -> str:
    """Which axes the angles are on, where the setting rounds K before RoPE."""
    return OWN_AXES if seen.angle_before_rope else OTHER_AXES * seen.before_rope


def _largest(diagnosis: Diagnosis, seen: Anisotropy, null: LayerBand) -> str:
    cells = [(v, i, b) for i, row in enumerate(seen.ratio) for b, v in enumerate(row) if v is not None]
    if not cells:
        return ""
    value, layer, band = max(cells)
    beside = null[layer][band]
    chance = "" if beside is None else f", where the null is {beside:.2f}"
    return f" Worst over best is largest in layer {diagnosis.layer_number(layer)}, band {band}: {value:.2f}{chance}."


FIGURES = {"anisotropy": each_group(by_angle)}
