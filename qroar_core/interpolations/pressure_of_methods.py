"""Interpolation pressure of all methods side by side, from frequencies alone: no forward pass, no text.

The frequencies come from transformers' initialisers on the loaded model's own config
(`interpolations.frequencies`), the derivatives from `interpolations.methods`. A few milliseconds, so a page may ask
at every move of a slider.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.interpolations.bands import Bands
from qroar_core.interpolations.base import Interpolation
from qroar_core.interpolations.checkpoint_rope import in_force
from qroar_core.interpolations.frequencies import bands_of, interpolation_of, native_inv_freq
from qroar_core.interpolations.pressure import (
    frequency_slope,
    interpolation_pressure,
    mean_distance,
    phase_displacement,
)
from qroar_core.interpolations.registry import interpolation_methods, stretching
from qroar_core.interpolations.result import MethodPressure, Pressures
from qroar_core.models.layer_groups import LayerGroup, layer_groups
from qroar_core.models.loaded import LoadedModel
from qroar_core.specs import BandSpec, DistanceLaw, RopeSpec


def pressures(
    loaded: LoadedModel,
    rope: RopeSpec,
    factor: float,
    length: int,
    law: DistanceLaw,
    bands: BandSpec,
    group: LayerGroup | None = None,
) -> Pressures:
    """Every method at `factor` on this model; the one in force with its own options.

    LongRoPE's list was searched at one factor, so it stays at its own: the setting's, else the checkpoint's, or L/L0
    where neither has one. The checkpoint's own RoPE is listed when it is what is in force, at its own factor.

    Args:
        rope: the setting's interpolation; the others take its options (betas, frequency factors, lists, ties).
        factor: s, >= 1.
        length: L, tokens: the window that distances are drawn from, and what dynamic NTK and LongRoPE go by.
        group: which of the layers that an interpolation changes; None: the first. Distances keep to their window.
    Raises:
        BadSpec: a factor below 1, or bands that cannot be cut.
    """
    geo = loaded.geometry
    native = native_inv_freq(loaded)
    cut = bands_of(loaded, bands)
    window = (group or layer_groups(geo)[0]).window
    distance = mean_distance(length, law, window)
    own, _ = in_force(loaded, RopeSpec(), geo.interpolated_kind)
    found, absent = [], {}
    for method in (*(("default",) if rope.method == "default" else ()), *stretching()):
        spec = _spec(rope, own, method, factor)
        try:
            at = interpolation_of(loaded, spec, length)
        except BadSpec as problem:
            absent[method] = problem.what
            continue
        found.append(_measured(method, at, cut, distance, method == rope.method))
    return Pressures(
        length=length,
        original_context=geo.original_context,
        factor=factor,
        law=law,
        mean_distance=distance,
        native_inv_freq=native.tolist(),
        bands=list(cut),
        methods=found,
        absent=absent,
    )


def _spec(rope: RopeSpec, own: RopeSpec, method: str, factor: float) -> RopeSpec:
    if method == "default":
        return rope
    if interpolation_methods()[method].takes_lists:  # lists hold at the factor that they were searched at
        searched = own.factor if own.method == method else 1.0
        return rope if rope.method == method else replace(rope, method=method, factor=searched)
    return replace(rope, method=method, factor=factor)


def _measured(method: str, at: Interpolation, bands: Bands, distance: float, chosen: bool) -> MethodPressure:
    pressure = interpolation_pressure(frequency_slope(at), distance)
    displacement = phase_displacement(at.native, at.scaled, distance)
    return MethodPressure(
        method=method,
        factor=interpolation_methods()[at.spec.method].factor_shown(at),
        chosen=chosen,
        inv_freq=at.scaled.tolist(),
        pressure=pressure.tolist(),
        displacement=displacement.tolist(),
        band_pressure=_band_means(pressure, bands),
        band_displacement=_band_means(displacement, bands),
    )


def _band_means(values: Tensor, bands: Bands) -> list[float]:
    """Mean over each band's pairs, as the diagnosis reports it."""
    return [math.fsum(values[a : b + 1].tolist()) / (b + 1 - a) for a, b in bands]
