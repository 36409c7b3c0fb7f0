"""Ranges by position, as the file keeps them."""

from __future__ import annotations

from qroar_core.result import PerBand, Result


class Dilation(Result):
    """Range by position, K after RoPE, [layer][band][bin], largest over KV heads."""

    absmax: list[list[PerBand]]
    rms: list[list[PerBand]]
    bits_lost: list[list[PerBand]]
    quantiles: dict[str, list[list[PerBand]]]  # "0.5", "0.99", "0.999" -> [layer][band][bin]
