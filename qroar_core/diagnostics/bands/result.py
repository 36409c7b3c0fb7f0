"""Bands and RoPE pairs as the file keeps them: what an interpolation does to each."""

from __future__ import annotations

from qroar_core.diagnostics.null import NullRow
from qroar_core.result import Number, Result

NATIVE = "the model's native RoPE, not stretched"


class Band(Result):
    """One frequency band; pressures in rad or nats per e-fold of s."""

    index: int
    first_pair: int
    last_pair: int
    wavelength_min: float  # tokens, under the interpolation, as the next
    wavelength_max: float
    turns: float  # mean full turns per native window at the native frequencies
    interpolation_pressure: float
    phase_displacement: float  # rad
    logit_weighted_pressure: float  # sum over pairs of the mean |part|: an upper bound on how far the logits move
    side_peak: Number  # highest side peak of the band kernel, None if it has none
    unseen_phase: float  # share of phases at L never seen in training
    compression: float  # mean omega(s) / omega
    native_wavelength_min: Number = None  # tokens, without interpolation, as the next; None: an older file
    native_wavelength_max: Number = None
    logit_change: Number = None  # how far the logits move by this band: mean |sum of its pairs' parts|
    logit_change_error: Number = None  # its standard error over the sampled rows


class Pairs(Result):
    """The same per RoPE pair, for the figures that need the finer grain."""

    native_inv_freq: list[float]  # rad/token
    inv_freq: list[float]
    turns: list[float]  # per native window at the native frequencies
    interpolation_pressure: list[float]
    phase_displacement: list[float]
    logit_weighted_pressure: list[float]  # how far each pair alone moves the logits
    unseen_phase: list[float]
    attention_factor: float


def null_rows(bands: list[Band]) -> list[NullRow]:
    """The band that is furthest from each quantity's null: what the native RoPE shows within its own window."""
    asked = (
        ("Interpolation pressure", "interpolation_pressure", "rad if the stretch grows 2.7 times", 0.0, max),
        ("Interpolation pressure", "phase_displacement", "phase displacement, rad", 0.0, max),
        ("Aliasing", "unseen_phase", "share of phases never seen in training", 0.0, max),
        ("Aliasing", "compression", "frequency left, interpolated over native", 1.0, min),
    )
    return [
        NullRow(diagnostic=diagnostic, quantity=f"{words}, {'highest' if worst is max else 'lowest'} band",
                measured=worst(getattr(band, name) for band in bands), null=null, control=NATIVE)
        for diagnostic, name, words, null, worst in asked
    ]  # fmt: skip
