"""Lesson 4: a band tells distances apart by its kernel, and a side peak takes a far token for a near one."""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from qroar_core.interpolations.bands import Bands, partition
from qroar_core.lessons.heads import REMEMBERED, Head, interpolated, native
from qroar_core.lessons.result import Aliasing, Kernel
from qroar_core.maths.aliasing import band_kernel
from qroar_core.specs import BandSpec

BUCKETS = 1025  # about as many as a screen has pixels; distances 0..1024 one by one


@lru_cache(REMEMBERED)
def aliasing(head: Head, method: str, factor: float, bands: int, reach: int) -> Aliasing:
    """C_b(D) for D = 0..reach before and after `method` of `factor`, in `bands` bands of equal count."""
    inv_freq = native(head)
    cut = partition(inv_freq, head.original_context, BandSpec(bands))
    rope = interpolated(head, method, factor)
    distance, before = _kernel(inv_freq, cut, reach)
    _, after = _kernel(rope.inv_freq, cut, reach)
    bucket = distance[1] - distance[0] if len(distance) > 1 else 1
    return Aliasing(method, factor, list(cut), distance, bucket, before, after)


def _kernel(inv_freq: Tensor, cut: Bands, reach: int) -> tuple[list[int], Kernel]:
    found = band_kernel(inv_freq, cut, reach, BUCKETS)
    at = found.side_peak_at.tolist()
    peak = [height if where >= 0 else None for height, where in zip(found.side_peak.tolist(), at, strict=True)]
    return found.distance.tolist(), Kernel(found.low.tolist(), found.high.tolist(), peak, at)
