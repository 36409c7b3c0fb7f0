"""Amplitude and phase error, as the file keeps them."""

from __future__ import annotations

from qroar_core.result import PerBand, Result


class PairErrors(Result):
    """Quantized K pairs as complex numbers, mean over layers, [band][bin]."""

    amplitude: list[PerBand]  # RMS of |z^|/|z| - 1
    phase: list[PerBand]  # RMS of arg(z^ conj z), rad
    length_share: list[PerBand]  # share of the error energy that is length, the rest is angle
