"""Axis-aligned quantizers against turning pairs: does the error depend on the angle?"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from qroar_core.figures.picture import Picture, colour_of, framed
from qroar_core.results import Diagnosis


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
    framed(figure, "angle of the pair from its first axis, degrees", "mean squared error of the pair")
    table = pd.DataFrame(
        [
            {"band": band, "angle_degrees": degrees[i], "error": error}
            for band, errors in enumerate(seen.error)
            for i, error in enumerate(errors)
        ]
    )
    worst = max((r for row in seen.ratio for r in row if r is not None), default=1.0)
    return Picture(
        f"Does a pair's error depend on its angle? Worst over best angle: up to {worst:.1f}",
        figure,
        table,
        "A flat line is an isotropic quantizer. RoPE turns every pair through all angles, so a peak hits each pair at "
        "some positions and spares it at others.",
    )
