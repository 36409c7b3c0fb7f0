"""Lesson 6: two bands on one grid of codes, and the logit error over the scale of the loud one."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.figures.cache_by_result import once
from qroar_core.figures.picture import BLUE, GREEN, GREY, ORANGE, RED, Picture, framed
from qroar_core.lessons.result import SharedStep

MOST_DOTS = 41  # codes an axis up to which the grid is drawn
TICKS = [digit * 10.0**power for power in range(-5, 2) for digit in (1, 2, 5)]  # of the error


@once
def shared_step(shown: SharedStep) -> Picture:
    """K's pairs in units of the step; beside them the logit error by log2 g."""
    figure = make_subplots(rows=1, cols=2, column_widths=[0.5, 0.5], horizontal_spacing=0.13)
    _codes(figure, shown)
    for y, name, colour, dash, width in (
        (shown.error, "logit error", GREEN, "solid", 3.5),
        (shown.loud_error, "its part from the band of large values", ORANGE, "dash", 1.6),
        (shown.quiet_error, "its part from the band of small values", BLUE, "dash", 1.6),
    ):
        figure.add_scatter(
            x=shown.grid,
            y=y,
            mode="lines",
            name=name,
            line={"color": colour, "dash": dash, "width": width},
            hovertemplate=f"log2 g = %{{x:.2f}}: %{{y:.2%}}<extra>{name}</extra>",
            row=1,
            col=2,
        )
    for at, height, name, colour, symbol in (
        (shown.best_log2_g, shown.best_error, "least error", GREEN, "star"),
        (shown.log2_g, shown.error_here, "the g chosen", RED, "x"),
    ):
        figure.add_scatter(
            x=[at],
            y=[height],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 16 if symbol == "star" else 12, "symbol": symbol},
            hovertemplate=f"log2 g = %{{x:.3f}}: %{{y:.2%}}<extra>{name}</extra>",
            row=1,
            col=2,
        )
    framed(figure, "", "", height=455)
    edge = shown.top * 1.12
    figure.update_xaxes(
        title_text="first channel of a pair, steps", range=[-edge, edge], constrain="domain", showgrid=False, col=1
    )
    figure.update_yaxes(
        title_text="second channel, steps",
        range=[-edge, edge],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
        showgrid=False,
        col=1,
    )
    figure.update_xaxes(title_text="log2 g of the band of large values (q · g, k / g)", dtick=1, col=2)
    figure.update_yaxes(
        title_text="RMS logit error, share of the RMS logit", type="log", tickvals=TICKS, tickformat=".1~%", col=2
    )
    figure.update_layout(margin={"t": 70})
    table = pd.DataFrame(
        {
            "log2_g": shown.grid,
            "logit_error": shown.error,
            "loud_band_part": shown.loud_error,
            "quiet_band_part": shown.quiet_error,
        }
    )
    return Picture(
        f"At g = {2**shown.log2_g:.3g} the band of small values uses {shown.quiet_levels} of {2 * shown.top + 1} "
        f"levels; the logit error is least at g = {2**shown.best_log2_g:.3g}",
        figure,
        table,
        "Left: every pair of K in units of its token's step; a dot of the grid is a code, so points crowded round the "
        "middle share a few codes. Right: what rounding K does to the logits, by the scale g; the star is the minimum.",
    )


def _codes(figure: go.Figure, shown: SharedStep) -> None:
    codes = list(range(-shown.top, shown.top + 1))
    if len(codes) <= MOST_DOTS:
        figure.add_scatter(
            x=[a for a in codes for _ in codes],
            y=[b for _ in codes for b in codes],
            mode="markers",
            name="codes",
            marker={"color": GREY, "size": 4, "opacity": 0.8},
            hoverinfo="skip",
            row=1,
            col=1,
        )
    both = (shown.loud, "band of large values", ORANGE), (shown.quiet, "band of small values", BLUE)
    for points, name, colour in both:
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 6, "opacity": 0.75},
            row=1,
            col=1,
            hovertemplate=f"(%{{x:.2f}}, %{{y:.2f}}) steps<extra>{name}</extra>",
        )
