"""Error by angle, as the file keeps it."""

from __future__ import annotations

from qroar_core.result import LayerBand, PerBand, Result


class Anisotropy(Result):
    """Error energy of a pair by its angle on its axes (mean over layers), [band][angle bin]."""

    angle: list[float]  # rad, 0..pi/2
    error: list[PerBand]
    ratio: LayerBand  # worst angle over best, [layer][band]
