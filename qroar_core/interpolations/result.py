"""Interpolation pressure of every method at one factor, window and distance law: closed forms, nothing measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from qroar_core.result import Result
from qroar_core.result_shapes import axes
from qroar_core.specs import ROPE_METHODS, DistanceLaw


def _known(method: str) -> str:
    if method not in ROPE_METHODS:
        raise ValueError(f"unknown rope method {method!r}")
    return method


RopeMethod = Annotated[str, AfterValidator(_known)]


class MethodPressure(Result):
    """One position interpolation; lists per RoPE pair or per band, pressure in rad per e-fold of s."""

    method: RopeMethod
    factor: float  # s this method is shown at
    chosen: bool  # the setting's own method
    inv_freq: Annotated[list[float], axes("pair")]  # omega_i(s), rad/token
    pressure: Annotated[list[float], axes("pair")]
    displacement: Annotated[list[float], axes("pair")]  # E|phi_i(D; s) - phi_i(D; 1)|, rad
    band_pressure: Annotated[list[float], axes("band")]  # mean over the band's pairs
    band_displacement: Annotated[list[float], axes("band")]


class Pressures(Result):
    """What `interpolations.pressure_of_methods.pressures` finds."""

    length: int  # L, tokens
    original_context: int  # L0, tokens
    factor: float  # s the methods are compared at
    law: DistanceLaw
    mean_distance: float  # E[D], tokens
    native_inv_freq: Annotated[list[float], axes("pair")]
    bands: Annotated[list[tuple[int, int]], axes("band", "ends")]  # first and last pair
    methods: Annotated[list[MethodPressure], axes("method")]
    absent: dict[RopeMethod, str]  # methods that this checkpoint and setting cannot be shown under, and why
