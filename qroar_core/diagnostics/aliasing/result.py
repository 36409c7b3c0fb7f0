"""The band kernel as the file keeps it."""

from __future__ import annotations

from qroar_core.result import Result


class Kernel(Result):
    """Band kernel C_b(distance): least and greatest value per bucket of distances, [band][bucket]."""

    distance: list[int]
    low: list[list[float]]
    high: list[list[float]]
    side_peak_at: list[int]
