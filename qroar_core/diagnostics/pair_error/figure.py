"""Quantized pairs as complex numbers: is the damage length or angle, and in which band?"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from qroar_core.diagnostics.pair_error.result import PairErrors
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import each_group
from qroar_core.figures.picture import GREY, Picture, bin_names, colour_of, counted_on, framed
from qroar_core.result import PerBand

NULL = "null: the same errors at a random angle"
EQUAL = "length error as large as angle error in rad"


def amplitude_and_phase(diagnosis: Diagnosis, tuned: Diagnosis | None = None) -> Picture | None:
    """Amplitude against phase error, one point a band; the tuned point joined to it. None when K is not quantized."""
    seen = diagnosis.pair_error
    if seen is None:
        return None
    shown = {"quantized": seen} | ({"tuned": tuned.pair_error} if tuned and tuned.pair_error else {})
    table = pd.concat([_table(diagnosis, name, errors) for name, errors in shown.items()], ignore_index=True)
    points = {
        name: list(zip(errors.phase_by_band(), errors.amplitude_by_band(), strict=True))
        for name, errors in shown.items()
    }
    null = list(zip(seen.phase_by_band(seen.null), seen.amplitude_by_band(seen.null), strict=True)) if seen.null else []
    reach = 1.1 * max(
        (v for group in (*points.values(), null) for point in group for v in point if v is not None), default=1.0
    )
    figure = go.Figure()
    figure.add_scatter(
        x=[0, reach], y=[0, reach], mode="lines", name=EQUAL, hoverinfo="skip", line={"color": GREY, "width": 1}
    )
    names, zeroed = list(points), seen.zeroed_by_band()
    for band in range(len(seen.amplitude)):
        phase, amplitude = zip(*(points[name][band] for name in names), strict=True)
        lost = zeroed[band] if zeroed else None
        to_zero = "" if lost is None else f"<br>{lost:.2%} of its quantized pairs are zero"
        figure.add_scatter(
            x=phase,
            y=amplitude,
            mode="lines+markers+text",
            showlegend=False,
            customdata=names,
            text=[str(band), *[""] * (len(names) - 1)],
            textposition="top right",
            line={"color": GREY, "width": 1},
            marker={
                "color": colour_of(band, len(seen.amplitude)),
                "size": 13,
                "symbol": ["circle", "diamond-open"][: len(names)],
                "line": {"width": 2},
            },
            hovertemplate=f"band {band}, %{{customdata}}<br>angle %{{x:.4g}} rad<br>length %{{y:.4g}}{to_zero}"
            "<extra></extra>",
        )
    if null:
        figure.add_scatter(
            x=[p[0] for p in null],
            y=[p[1] for p in null],
            mode="lines+markers",
            name=NULL,
            customdata=list(range(len(null))),
            line={"color": GREY, "dash": "dot"},
            marker={"color": GREY, "symbol": "x-thin-open", "size": 9},
            hovertemplate="null of band %{customdata}<br>angle %{x:.4g} rad<br>length %{y:.4g}<extra></extra>",
        )
    framed(figure, "angle error: RMS, rad", "length error: RMS of quantized / exact − 1", height=420)
    figure.update_xaxes(range=[0, reach])
    figure.update_yaxes(range=[0, reach])
    older = next((errors.older for errors in shown.values() if errors.older), "")
    also = " Filled: quantized; open: tuned; a line joins the two." if len(names) > 1 else ""
    how = (
        "Each quantized pair of K as a complex number against the exact one; one point a band (its number beside "
        "it), root mean square over the pairs of all layers and positions that are rounded. Above the thin line the "
        "length error is the larger, below it the angle error."
        f"{_lost(seen, zeroed)}{also}{older}"
    )
    if null:
        how += (
            " The null (grey crosses, dotted from band to band) is the same errors, each pair's turned to a random "
            "angle: where they are small, half of their energy is length, and they lie on the thin line. A "
            "band above its cross loses more length than such errors would."
        )
    return Picture(_title(seen), figure, table, how, counted_on(seen.sample))


def _title(seen: PairErrors) -> str:
    question = "Is the damage length or angle?"
    if seen.share is None:  # an older file, or no error at all
        shares = [v for row in seen.length_share for v in row if v is not None]
        if not shares:
            return f"{question} There is no error"
        mean = sum(shares) / len(shares)
        return f"{question} {mean:.0%} of the error energy is length, mean over bands and positions"
    beside = "" if seen.null is None or seen.null.share is None else f"; at random angles {seen.null.share:.0%}"
    return f"{question} {seen.share:.0%} of the error energy is length{beside}"


def _lost(seen: PairErrors, zeroed: PerBand) -> str:
    """What is said of pairs without a phase; nothing of an older file, which does not know."""
    if seen.zeroed_share is None:
        return ""
    if seen.zeroed_share == 0:
        return " No pair is rounded to zero."
    band = max(range(len(zeroed)), key=lambda b: zeroed[b] or 0.0)
    return (
        f" Pairs rounded to zero have lost their angle: their length error is 1, and the angle error leaves "
        f"them out. They are {seen.zeroed_share:.2%} of all pairs, most in band {band} "
        f"({zeroed[band]:.2%})."
    )


def _table(diagnosis: Diagnosis, name: str, seen: PairErrors) -> pd.DataFrame:
    bins, null = bin_names(diagnosis.position_edges), seen.null
    return pd.DataFrame(
        [
            {
                "model": name,
                "band": b,
                "positions": positions,
                "amplitude": seen.amplitude[b][i],
                "phase_rad": seen.phase[b][i],
                "length_share": seen.length_share[b][i],
                "zeroed_share": seen.zeroed[b][i] if seen.zeroed else None,
                "pairs": seen.pairs[b][i] if seen.pairs else None,
                "pairs_with_phase": seen.with_phase[b][i] if seen.with_phase else None,
                "null_amplitude": null.amplitude[b][i] if null else None,
                "null_phase_rad": null.phase[b][i] if null else None,
                "null_length_share": null.length_share[b][i] if null else None,
            }
            for b in range(len(seen.amplitude))
            for i, positions in enumerate(bins)
        ]
    )


FIGURES = {"pair_error": each_group(amplitude_and_phase)}
