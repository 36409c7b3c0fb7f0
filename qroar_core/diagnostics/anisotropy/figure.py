"""Axis-aligned quantizers against turning pairs: does the error depend on the angle?"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.anisotropy.result import Anisotropy
from qroar_core.figures.picture import GREY, Picture, colour_of, counted_on, framed
from qroar_core.results import Diagnosis

CLEARLY = 1.25  # times the null: repeated tokens repeat their errors, so fewer are independent than the null counts
OVER = {
    "step": "squared error of a pair over its squared step",
    "error": "squared error of a pair over its vector's mean squared error",
    None: "mean squared error of the pair",  # an older file
}
NORMALISED = {
    "step": "Each pair's error is divided by the squared step it was rounded with (mean of its two coordinates; behind "
    "a Hadamard rotation that of its vector; of 8-bit floats the distance between levels). ",
    "error": "Weights have no step on K, so each pair's error is divided by the mean squared error of its head's "
    "vector at that token. ",
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
            x=degrees, y=error, mode="lines", name=f"band {band}", line={"color": colour_of(band, len(seen.error))},
            hovertemplate=f"band {band}, %{{x:.0f}}°: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    for band, error in enumerate(seen.null.error if seen.null else []):
        figure.add_scatter(
            x=degrees, y=error, mode="lines", name="null: noise that does not depend on the angle", legendgroup="null",
            showlegend=band == 0, line={"color": GREY, "dash": "dot", "width": 1},
            hovertemplate=f"null of band {band}, %{{x:.0f}}°: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
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
    return Picture(_title(seen), figure, table, _how_to_read(seen), counted_on(seen.sample))


def _title(seen: Anisotropy) -> str:
    worst, null = seen.largest, seen.null_largest
    if worst is None:
        return "Does a pair's error depend on its angle? Too few pairs to tell"
    if null is None:
        return f"Does a pair's error depend on its angle? Worst over best angle: up to {worst:.1f}"
    answer = "Yes" if worst > CLEARLY * null else "Not clearly"
    return f"Does a pair's error depend on its angle? {answer}: worst over best up to {worst:.2f}, null {null:.2f}"


def _how_to_read(seen: Anisotropy) -> str:
    if seen.null is None:
        return "A flat line is an isotropic quantizer. RoPE turns a pair, so its error changes along the text."
    return (
        "Error by where K's pairs stand after RoPE, from 0° (all on the first axis) to 90° (all on the second). "
        f"{NORMALISED[seen.over]}A flat line does not depend on the angle. The null (grey, dotted) is normal noise as "
        "large as the rounding's, at the same pairs: what it varies by is chance. Lines are means over layers, the "
        "title gives the largest of all layers and bands."
    )
