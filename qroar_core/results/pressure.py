"""Interpolation pressure of every method at one factor, window and distance law: closed forms, nothing measured."""

from __future__ import annotations

from qroar_core.result import Result
from qroar_core.specs import DistanceLaw, RopeMethod


class MethodPressure(Result):
    """One position interpolation; lists per RoPE pair or per band, pressure in rad per e-fold of s."""

    method: RopeMethod
    factor: float  # s this method is shown at
    chosen: bool  # the setting's own method
    inv_freq: list[float]  # omega_i(s), rad/token
    pressure: list[float]
    displacement: list[float]  # E|phi_i(D; s) - phi_i(D; 1)|, rad
    band_pressure: list[float]  # mean over the band's pairs
    band_displacement: list[float]


class Pressures(Result):
    """What `models.pressures.pressures` finds."""

    length: int  # L, tokens
    original_context: int  # L0, tokens
    factor: float  # s the methods are compared at
    law: DistanceLaw
    mean_distance: float  # E[D], tokens
    native_inv_freq: list[float]
    bands: list[tuple[int, int]]  # first and last pair
    methods: list[MethodPressure]
    absent: dict[RopeMethod, str]  # methods that this checkpoint and setting cannot be shown under, and why
