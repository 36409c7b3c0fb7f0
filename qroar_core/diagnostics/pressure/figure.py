"""Interpolation pressure: which frequencies move when the context is stretched, and which of them matter."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.diagnostics.bands.result import Band
from qroar_core.diagnostics.pressure.result import LogitChange
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import of_frequencies
from qroar_core.figures.picture import BAND_AXIS, BLUE, GREY, ORANGE, Picture, band_names, counted_on, framed, upright
from qroar_core.interpolations.base import ROUNDING
from qroar_core.interpolations.tie import wavelength_of
from qroar_core.statistics.digits import shown, within

ANGLE_AXIS = "angle moved if s grows 2.7 times, rad"
LOGIT_AXIS = "logit moved if s grows 2.7 times, nats"
ANGLE_WORDS = "how far an angle moves if the stretch s grows 2.7 times (e times, at the rate it moves now)"
SENSITIVITY = (
    "That is a sensitivity: 0 where frequencies do not change with the factor, but not at s = 1, where nothing is "
    "stretched yet. So it has no null: compare bands with each other."
)
UNSTRETCHED = "Every frequency is the native one; a first bit of stretching"
LAW_WORDS = {"causal": "every query and the keys that it sees", "uniform": "every distance alike"}
NULL = "null: random signs"
APART = 0.1  # share of the null, and
ERRORS = 2  # standard errors: the change must be further from its null than both, or it is called chance


def by_band(diagnosis: Diagnosis) -> Picture:
    """Plain pressure beside what the model's own q and k make of it."""
    bands, change = diagnosis.bands, diagnosis.logit_change
    names = band_names(bands)
    plain = [b.interpolation_pressure for b in bands]
    moved = change.by_band if change else [b.logit_weighted_pressure for b in bands]
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    figure.add_bar(
        x=names,
        y=plain,
        marker={"color": BLUE},
        name="angle",
        hovertemplate="band %{x}: %{y:.4g} rad<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_bar(
        x=names,
        y=moved,
        marker={"color": ORANGE},
        name="logit" if change else "upper bound on the logit",
        error_y={"type": "data", "array": change.error, "color": GREY} if change else None,
        hovertemplate="band %{x}: %{y:.4g} nats<extra></extra>",
        row=1,
        col=2,
    )
    if change:
        _beside(figure, names, change)
    framed(figure, BAND_AXIS, "")
    upright(figure, names, 2)
    figure.update_yaxes(title_text=ANGLE_AXIS, row=1, col=1)
    figure.update_yaxes(title_text=LOGIT_AXIS, row=1, col=2)
    turns, moves = _top(plain), _top(moved)
    then = "it" if turns == moves else f"band {moves}"
    found = f"The angles of band {turns} change most, and {then} moves the logits most"
    if not change:
        found = f"The angles of band {turns} change most, and {then} has the highest bound on the logits' change"
    if _native(diagnosis):
        then = "it" if turns == moves else f"band {moves}"
        further = f"{then} would {'move the logits most' if change else 'have the highest bound on the logits'}"
        found = f"{UNSTRETCHED} would change the angles of band {turns} most, and {further}"
    return Picture(
        found if any(plain) else _unmoved(diagnosis, "No interpolation moves the angles of these bands"),
        figure,
        _table(bands, change),
        f"Left: {ANGLE_WORDS}, mean over pairs and distances in {diagnosis.length:,} tokens. {SENSITIVITY} "
        f"{_right(change) if change else OLD_RIGHT}",
        counted_on(change.sample if change else None),
    )


OLD_RIGHT = (
    "Right: the sum over RoPE pairs of how far each alone moves the logits, an upper bound on how far they move "
    "together."
)


def _right(change: LogitChange) -> str:
    """The right side in words: what is shown, what bounds it, and what the null says of it."""
    if not change.in_all_bound:
        return "Right: how far this model's own logits move with it. None moves, and so no null either."
    error = change.in_all_error
    return (
        f"Right: how far this model's own logits move with it, mean over {LAW_WORDS[change.law]}, by the pairs of one "
        f"band. All together move a logit by {within(change.in_all, error)} nats, {_against(change)}. Ring: the "
        f"bound, reached if all pairs move it in one direction ({shown(change.in_all_bound, error)} for all bands). "
        "Null: each pair's part with a random sign."
    )


def _against(change: LogitChange) -> str:
    """What all pairs do together, beside pairs with random signs."""
    apart = change.in_all - change.in_all_null
    null = f"with random signs ({shown(change.in_all_null, change.in_all_error)})"
    if abs(apart) <= max(APART * change.in_all_null, ERRORS * change.in_all_error):
        return f"about as far as {null}"
    return f"further than {null}: their parts add up" if apart > 0 else f"less far than {null}: their parts cancel"


def _beside(figure: go.Figure, names: list[str], change: LogitChange) -> None:
    """Null and bound of every band."""
    low, high = zip(*change.null_range, strict=True)
    spread = {
        "type": "data",
        "array": [h - n for h, n in zip(high, change.null)],
        "arrayminus": [n - lo for lo, n in zip(low, change.null)],
        "color": GREY,
    }
    figure.add_scatter(
        x=names,
        y=change.null,
        name=NULL,
        mode="lines+markers",
        line={"color": GREY, "dash": "dot"},
        error_y=spread,
        marker={"size": 5},
        hovertemplate=f"band %{{x}}: %{{y:.4g}} nats<extra>{NULL}</extra>",
        row=1,
        col=2,
    )
    figure.add_scatter(
        x=names,
        y=change.bound,
        name="upper bound",
        mode="markers",
        row=1,
        col=2,
        marker={"symbol": "circle-open", "size": 9, "color": GREY, "line": {"width": 2}},
        hovertemplate="band %{x}: at most %{y:.4g} nats<extra>upper bound</extra>",
    )


def _table(bands: list[Band], change: LogitChange | None) -> pd.DataFrame:
    """Every number of a band; which frequencies a wavelength or turns are under stands in the column's name."""
    rows = []
    for b in bands:
        row = {
            "band": b.index,
            "pairs": f"{b.first_pair}–{b.last_pair}",
            "interpolation_pressure": b.interpolation_pressure,
            "phase_displacement": b.phase_displacement,
        }
        if change:
            row |= {
                "logit_change": change.by_band[b.index],
                "logit_change_standard_error": change.error[b.index],
                "null_random_signs": change.null[b.index],
            }
        rows.append(
            row
            | {
                "logit_change_bound": b.logit_weighted_pressure,
                "native_turns_per_native_window": b.turns,
                "native_wavelength_min": b.native_wavelength_min,
                "native_wavelength_max": b.native_wavelength_max,
                "interpolated_wavelength_min": b.wavelength_min,
                "interpolated_wavelength_max": b.wavelength_max,
                "compression": b.compression,
                "unseen_phase": b.unseen_phase,
                "side_peak": b.side_peak,
            }
        )
    return pd.DataFrame(rows)


def by_pair(diagnosis: Diagnosis) -> Picture:
    """The same pair by pair, over the wavelength."""
    pairs, change = diagnosis.pairs, diagnosis.logit_change
    wavelength = [2 * math.pi / w for w in pairs.native_inv_freq]
    table = pd.DataFrame(
        {
            "pair": range(len(wavelength)),
            "native_wavelength_tokens": wavelength,
            "interpolated_wavelength_tokens": [wavelength_of(w) for w in pairs.inv_freq],
            "native_turns_per_native_window": pairs.turns,
            "interpolation_pressure": pairs.interpolation_pressure,
            "phase_displacement": pairs.phase_displacement,
            "logit_change_by_this_pair_alone": pairs.logit_weighted_pressure,
            "logit_change_standard_error": change.pair_error if change and change.pair_error else None,
            "native_inv_freq": pairs.native_inv_freq,
            "interpolated_inv_freq": pairs.inv_freq,
        }
    )
    figure = make_subplots(1, 2, horizontal_spacing=0.14)
    for at, (column, name, unit, colour) in enumerate(
        (
            ("interpolation_pressure", "angle", "rad", BLUE),
            ("logit_change_by_this_pair_alone", "logit, by this pair alone", "nats", ORANGE),
        ),
        start=1,
    ):
        figure.add_scatter(
            x=wavelength,
            y=table[column],
            name=name,
            mode="lines+markers",
            line={"color": colour},
            customdata=table["pair"],
            row=1,
            col=at,
            hovertemplate=f"pair %{{customdata}}, %{{x:.4g}} tokens: %{{y:.4g}} {unit}<extra>{name}</extra>",
        )
    if change and any(change.pair_error):
        figure.data[1].update(error_y={"type": "data", "array": change.pair_error, "thickness": 1})
    framed(figure, "native wavelength of the pair, tokens", "", log_x=True)
    figure.update_yaxes(title_text=ANGLE_AXIS, row=1, col=1)
    figure.update_yaxes(title_text=LOGIT_AXIS, row=1, col=2)
    turns, moves = (
        wavelength[_top(values)] for values in (pairs.interpolation_pressure, pairs.logit_weighted_pressure)
    )
    found = f"Angles change most at a wavelength of {turns:,.0f} tokens, logits at {moves:,.0f}"
    if _native(diagnosis):
        found = f"{UNSTRETCHED} would change angles most at a wavelength of {turns:,.0f} tokens, logits at {moves:,.0f}"
    return Picture(
        found if any(pairs.interpolation_pressure) else _unmoved(diagnosis, "No interpolation turns these pairs"),
        figure,
        table,
        f"Each point is a RoPE pair, fast ones left, at {diagnosis.length:,} tokens. Left: {ANGLE_WORDS}. Right: how "
        "far this pair alone moves the logits, with the model's own q and k; pairs move them in either direction, so "
        "together they move a logit by no more than the sum of these points. Both are sensitivities: 0 where a "
        "frequency does not change with the factor, but not at s = 1, where nothing is stretched yet. So they have no "
        "null: compare pairs with each other.",
        counted_on(change.sample if change else None, estimates=bool(change and any(change.pair_error))),
    )


def _unmoved(diagnosis: Diagnosis, alone: str) -> str:
    """Where nothing changes with the factor: `alone` if frequencies are the native ones."""
    if _native(diagnosis):
        return alone
    return "These frequencies are not the native ones, but do not change with the factor here"


def _native(diagnosis: Diagnosis) -> bool:
    """Whether every frequency is the native one, as at s = 1."""
    pairs = diagnosis.pairs
    return all(math.isclose(a, b, rel_tol=ROUNDING) for a, b in zip(pairs.inv_freq, pairs.native_inv_freq, strict=True))


def _top(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


FIGURES = {"pressure": of_frequencies(by_band), "pressure_by_pair": of_frequencies(by_pair)}
