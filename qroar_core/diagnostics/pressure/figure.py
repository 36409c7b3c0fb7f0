"""Interpolation pressure: which frequencies move when the context is stretched, and which of them matter."""

from __future__ import annotations

import math

import pandas as pd
from plotly.subplots import make_subplots

from qroar_core.figures.picture import BAND_AXIS, BLUE, ORANGE, Picture, band_names, framed
from qroar_core.results import Diagnosis

BAND_FIELDS = ("interpolation_pressure", "phase_displacement", "logit_weighted_pressure", "turns", "wavelength_min",
               "wavelength_max", "compression", "unseen_phase", "side_peak")  # fmt: skip


def by_band(diagnosis: Diagnosis) -> Picture:
    """Plain pressure beside what the model's own q and k make of it."""
    bands = diagnosis.bands
    names = band_names(bands)
    plain = [b.interpolation_pressure for b in bands]
    weighted = [b.logit_weighted_pressure for b in bands]
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    figure.add_bar(x=names, y=plain, marker={"color": BLUE}, name="plain", row=1, col=1,
                   hovertemplate="band %{x}: %{y:.4g} rad per e-fold<extra></extra>")  # fmt: skip
    figure.add_bar(x=names, y=weighted, marker={"color": ORANGE}, name="logit-weighted", row=1, col=2,
                   hovertemplate="band %{x}: %{y:.4g} nats per e-fold<extra></extra>")  # fmt: skip
    framed(figure, BAND_AXIS, "")
    figure.update_yaxes(title_text="pressure, rad per e-fold of s", row=1, col=1)
    figure.update_yaxes(title_text="logit-weighted pressure, nats per e-fold of s", row=1, col=2)
    table = pd.DataFrame(
        [
            {"band": b.index, "pairs": f"{b.first_pair}–{b.last_pair}"} | {f: getattr(b, f) for f in BAND_FIELDS}
            for b in bands
        ]
    )
    turns, moves = _top(plain), _top(weighted)
    then = " and" if turns == moves else f", band {moves}"
    found = f"Band {turns} turns most under the interpolation{then} moves the logits most"
    return Picture(
        found if any(plain) else "No interpolation presses on these bands",
        figure,
        table,
        f"Left: how much the band's phases move per e-fold of scale, averaged over the distances in "
        f"{diagnosis.length:,} tokens. "
        "Right: how much the logits of this model's own q and k move by it.",
    )


def by_pair(diagnosis: Diagnosis) -> Picture:
    """The same pair by pair, over the wavelength."""
    pairs = diagnosis.pairs
    wavelength = [2 * math.pi / w for w in pairs.native_inv_freq]
    table = pd.DataFrame(
        {
            "pair": range(len(wavelength)),
            "wavelength_tokens": wavelength,
            "interpolation_pressure": pairs.interpolation_pressure,
            "phase_displacement": pairs.phase_displacement,
            "logit_weighted_pressure": pairs.logit_weighted_pressure,
            "inv_freq": pairs.inv_freq,
            "turns": pairs.turns,
        }
    )
    figure = make_subplots(1, 2, horizontal_spacing=0.14)
    for at, (column, name, unit, colour) in enumerate(
        (
            ("interpolation_pressure", "plain", "rad per e-fold", BLUE),
            ("logit_weighted_pressure", "logit-weighted", "nats per e-fold", ORANGE),
        ),
        start=1,
    ):
        figure.add_scatter(
            x=wavelength, y=table[column], name=name, mode="lines+markers", line={"color": colour},
            customdata=table["pair"], row=1, col=at,
            hovertemplate=f"pair %{{customdata}}, %{{x:.4g}} tokens: %{{y:.4g}} {unit}<extra>{name}</extra>",
        )  # fmt: skip
    framed(figure, "native wavelength of the pair, tokens", "", log_x=True)
    figure.update_yaxes(title_text="pressure, rad per e-fold of s", row=1, col=1)
    figure.update_yaxes(title_text="logit-weighted pressure, nats per e-fold of s", row=1, col=2)
    turns, moves = (wavelength[_top(values)] for values in
                    (pairs.interpolation_pressure, pairs.logit_weighted_pressure))  # fmt: skip
    found = f"The phase turns most at {turns:,.0f} tokens' wavelength, the logits move most at {moves:,.0f}"
    return Picture(
        found if any(pairs.interpolation_pressure) else "No interpolation turns these pairs",
        figure,
        table,
        f"Each point is a RoPE pair, fast ones left, at {diagnosis.length:,} tokens. Left: rad its phase turns per "
        "e-fold of scale. Right: how much the logits move by it, with the model's own q and k.",
    )


def _top(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
