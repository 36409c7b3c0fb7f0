"""Interpolation pressure with the methods side by side, at any factor, window and distance law."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qroar_core.diagnostics.pressure.figure import ANGLE_AXIS
from qroar_core.figures.picture import (
    BLUE,
    COLOURS,
    DASHES,
    FROM_FREQUENCIES,
    SEQUENTIAL,
    Picture,
    framed,
    heatmap,
    map_height,
)
from qroar_core.figures.readable import write_on_cells
from qroar_core.interpolations.base import ROUNDING
from qroar_core.interpolations.registry import label_of
from qroar_core.interpolations.result import MethodPressure, Pressures
from qroar_core.interpolations.tie import wavelength_of
from qroar_core.specs.labels import capital

HALF_TURN = math.pi  # rad: a pair displaced by this much points the other way
LEFT_ALONE_SHARE = 1e-9  # share of the largest pressure below which a pair counts as left alone


def by_pair(found: Pressures) -> Picture:
    """Pressure and phase displacement of every pair over its wavelength, one line a method."""
    wavelength = [2 * math.pi / w for w in found.native_inv_freq]
    rounding = [ROUNDING * w * found.mean_distance for w in found.native_inv_freq]
    figure = make_subplots(1, 2, horizontal_spacing=0.14)
    rows = []
    for at, shown in enumerate(found.methods):
        name, line = _label(shown), _line(shown, at)
        for column, values, unit in ((1, shown.pressure, "rad"), (2, shown.displacement, "rad")):
            figure.add_scatter(
                x=wavelength,
                y=[v if v > least else None for v, least in zip(values, rounding, strict=True)],
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                mode="lines+markers",
                line=line,
                marker={"size": 4 + 3 * shown.chosen},
                customdata=list(range(len(wavelength))),
                hovertemplate=f"pair %{{customdata}}, %{{x:.4g}} tokens: %{{y:.4g}} {unit}<extra>{name}</extra>",
                row=1,
                col=column,
            )
        rows += [
            {
                "method": name,
                "chosen": shown.chosen,
                "pair": i,
                "native_wavelength_tokens": wavelength[i],
                "interpolated_wavelength_tokens": wavelength_of(shown.inv_freq[i]),
                "pressure_rad_per_efold": shown.pressure[i],
                "displacement_rad": shown.displacement[i],
                "inv_freq_rad_per_token": shown.inv_freq[i],
            }
            for i in range(len(wavelength))
        ]
    framed(figure, "native wavelength of the pair, tokens", "", height=420, log_x=True, log_y=True)
    figure.update_yaxes(title_text=ANGLE_AXIS, row=1, col=1, exponentformat="power")
    figure.update_yaxes(title_text="phase displacement, rad", row=1, col=2, exponentformat="power")
    figure.add_hline(y=HALF_TURN, line={"dash": "dot", "width": 1, "color": "#8A8A8A"}, row=1, col=2)
    figure.add_vline(x=found.original_context, line={"dash": "dot", "width": 1, "color": "#8A8A8A"})
    return Picture(
        _pair_title(found),
        figure,
        pd.DataFrame(rows),
        "Each point is a RoPE pair, fast ones left; the vertical line is the native window. Left: how far its angle "
        "moves if the stretch s grows 2.7 times (e times, at the rate it moves now), mean over the distances. Right: "
        "how far the angle is from where plain RoPE has it, the dotted line at half a turn. "
        "Without stretching (s = 1) the right figure is 0; the left shows what a first bit of stretching would do. "
        "Axes are logarithmic: a pair at 0 has no point. Without one left, but with one right, its frequency differs "
        "from the native one and does not change with the factor here.",
        _closed_form(found),
    )


def by_band(found: Pressures) -> Picture:
    """Mean pressure of every band under every method, as a map of orders of magnitude."""
    names = [f"{b}<br>{first}–{last}" for b, (first, last) in enumerate(found.bands)]
    labels = [_label(m) for m in found.methods]
    rows = [m.band_pressure for m in found.methods]
    logs = [[math.log10(v) if v > 0 else None for v in row] for row in rows]
    drawn = heatmap(logs, names, labels, "rad", hover="%{y}, band %{x}: %{text}")
    seen = [v for row in logs for v in row if v is not None] or [0.0]
    ticks = list(range(math.floor(min(seen)), math.ceil(max(seen)) + 1))
    drawn.update(
        text=[[f"{v:.3g}" if v > 0 else "" for v in row] for row in rows],
        hoverongaps=False,
        colorbar={
            "title": {"text": "angle<br>moved, rad"},
            "thickness": 14,
            "tickvals": ticks,
            "ticktext": [f"{10.0**t:g}" for t in ticks],
        },
    )
    figure = go.Figure(drawn)
    write_on_cells(figure, SEQUENTIAL, min(seen), max(seen))
    framed(figure, "band (pairs first–last, fast to slow)", "", height=map_height(len(rows)), legend=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    table = pd.DataFrame(
        [
            {
                "method": label,
                "chosen": m.chosen,
                "band": b,
                "pairs": f"{first}–{last}",
                "pressure_rad_per_efold": m.band_pressure[b],
                "displacement_rad": m.band_displacement[b],
            }
            for label, m in zip(labels, found.methods, strict=True)
            for b, (first, last) in enumerate(found.bands)
        ]
    )
    absent = "".join(f" {label_of(name)} is not shown: {why}." for name, why in found.absent.items())
    return Picture(
        _band_title(found),
        figure,
        table,
        "How far the angles of a band's pairs move if the stretch s grows 2.7 times, mean over pairs and distances; a "
        f"cell without colour is a band at 0: {_uncoloured(found)}.{absent}",
        _closed_form(found),
    )


def _closed_form(found: Pressures) -> str:
    """In the place of a sample."""
    return (
        f"{FROM_FREQUENCIES} Closed forms at {found.length:,} tokens, {found.law} distances with a mean of "
        f"{found.mean_distance:,.1f} tokens."
    )


def _label(shown: MethodPressure) -> str:
    plain = shown.method == "default" and not _stretches(shown)
    own = label_of(shown.method) if plain else f"{label_of(shown.method)} ×{shown.factor:g}"
    return f"{own} (chosen)" if shown.chosen else own


def _named(shown: MethodPressure) -> str:
    """The method at the head of a title."""
    name = label_of(shown.method) + " interpolation" * (shown.method == "default")
    return capital(name)


def _line(shown: MethodPressure, at: int) -> dict:
    if shown.chosen:
        return {"color": BLUE, "width": 4}
    others = [c for c in COLOURS if c != BLUE]
    return {"color": others[at % len(others)], "width": 1.8, "dash": DASHES[at % len(DASHES)]}


def _stretches(shown: MethodPressure) -> bool:
    """Whether it is an interpolation: the checkpoint's own RoPE is none where nothing moves with its factor."""
    return shown.method != "default" or shown.factor > 1


def _chosen(found: Pressures) -> MethodPressure | None:
    return next((m for m in found.methods if m.chosen and _stretches(m)), None)


def _pair_title(found: Pressures) -> str:
    own = _chosen(found)
    if own is None:
        return f"What would ×{found.factor:g} do to each wavelength?"
    name, most = _named(own), max(own.pressure)
    moved = _moved(found, own)
    if most == 0:
        if any(moved):
            return f"{name}: frequencies are not the native ones, but do not change with the factor at {_tokens(found)}"
        return f"{name} moves no pair at {_tokens(found)}"
    at, of = own.pressure.index(most), len(own.pressure)
    alone, fixed = (
        sum(
            v <= LEFT_ALONE_SHARE * most and there == elsewhere
            for v, elsewhere in zip(own.pressure, moved, strict=True)
        )
        for there in (False, True)
    )
    spared = f"and leaves {alone} of {of} pairs alone" if alone else "and leaves no pair alone"
    if fixed:
        spared += f"; {fixed} have other frequencies than native RoPE, which do not change with the factor"
    peak = 2 * math.pi / found.native_inv_freq[at]
    if not any(moved):
        return f"{_unstretched(own)} would move pairs with a wavelength of {peak:,.0f} tokens most"
    return f"{name} moves pairs with a wavelength of {peak:,.0f} tokens most, {spared}"


def _band_title(found: Pressures) -> str:
    own, linear = _chosen(found), next((m for m in found.methods if m.method == "linear"), None)
    if own is None or max(own.band_pressure) == 0:
        shown = [m for m in found.methods if max(m.band_pressure) > 0]
        if not shown:
            if any(_fixed(m) for m in found.methods):
                return f"No method's frequencies change with the factor at {_tokens(found)}"
            return f"No method moves a band at {_tokens(found)}"
        least = min(shown, key=lambda m: max(m.band_pressure))
        peak = max(least.band_pressure)
        return f"At ×{found.factor:g}, {label_of(least.method)} has the lowest peak pressure: {peak:.3g} rad"
    said = f"{_named(own)} moves band {_top(own)} most"
    if not any(_moved(found, own)):
        said = f"{_unstretched(own)} would move band {_top(own)} most"
    if linear is None or linear is own:
        return f"{said}, with {max(own.band_pressure):.3g} rad"
    against = f"{max(own.band_pressure):.3g} against {max(linear.band_pressure):.3g} rad"
    return f"{said}, linear band {_top(linear)}: {against}"


def _moved(found: Pressures, own: MethodPressure) -> list[bool]:
    """By pair, whether its frequency is another than the native one."""
    distance = found.mean_distance
    return [d > ROUNDING * w * distance for d, w in zip(own.displacement, found.native_inv_freq, strict=True)]


def _unstretched(own: MethodPressure) -> str:
    """The beginning of a title where every frequency is the native one, but would not stay so."""
    return f"{_named(own)} at ×{own.factor:g} leaves every frequency native; a first bit of stretching"


def _tokens(found: Pressures) -> str:
    return f"{found.length:,} tokens"


def _fixed(shown: MethodPressure) -> bool:
    """Whether a band has other frequencies than the native ones that do not change with the factor."""
    bands = zip(shown.band_pressure, shown.band_displacement, strict=True)
    return any(p == 0 and d > ROUNDING for p, d in bands)


def _uncoloured(found: Pressures) -> str:
    """What a pressure of 0 means of the methods shown."""
    fixed = [_label(m) for m in found.methods if _fixed(m)]
    said = "its frequencies do not change with the factor here, most often because they are the native ones"
    return said + (f" (not so under {', '.join(fixed)})" if fixed else "")


def _top(shown: MethodPressure) -> int:
    return max(range(len(shown.band_pressure)), key=shown.band_pressure.__getitem__)
