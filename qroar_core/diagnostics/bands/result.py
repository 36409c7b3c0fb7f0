"""Bands and RoPE pairs as the file keeps them: what an interpolation does to each."""

from __future__ import annotations

from qroar_core.result import Number, Result


class Band(Result):
    """One frequency band; wavelengths in tokens under the interpolation, pressures in rad per e-fold of s."""

    index: int
    first_pair: int
    last_pair: int
    wavelength_min: float
    wavelength_max: float
    turns: float  # mean full turns per native window
    interpolation_pressure: float
    phase_displacement: float  # rad
    logit_weighted_pressure: float  # nats per e-fold, mean over layers and heads
    side_peak: Number  # highest side peak of the band kernel, None if it has none
    unseen_phase: float  # share of phases at L never seen in training
    compression: float  # mean omega(s) / omega


class Pairs(Result):
    """The same per RoPE pair, for the figures that need the finer grain."""

    native_inv_freq: list[float]  # rad/token
    inv_freq: list[float]
    turns: list[float]
    interpolation_pressure: list[float]
    phase_displacement: list[float]
    logit_weighted_pressure: list[float]
    unseen_phase: list[float]
    attention_factor: float
