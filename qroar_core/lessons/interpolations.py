"""Lesson 3: what each position interpolation does to the frequencies."""

from __future__ import annotations

from functools import lru_cache

from qroar_core.interpolations.tie import Tie, ties_words
from qroar_core.lessons.heads import REMEMBERED, STRETCHING, Head, interpolated, native, stretched, wavelength
from qroar_core.lessons.result import Bend, Bends
from qroar_core.maths.aliasing import compression


@lru_cache(REMEMBERED)
def bends(head: Head, factor: float, tie: tuple[Tie, ...] = ()) -> Bends:
    """All methods at one factor s, for a context of s L0 tokens, with the same pairs tied in each.

    Raises:
        BadSpec: pairs that the head does not have.
    """
    inv_freq = native(head)

    def bend(method: str) -> Bend:
        rope = interpolated(head, method, factor, tie)
        left = compression(inv_freq, rope.inv_freq).tolist()
        return Bend(method, rope.inv_freq.tolist(), left, rope.attention_factor)

    return Bends(
        factor=factor,
        tied=ties_words(tie),
        length=stretched(head, factor),
        native=inv_freq.tolist(),
        wavelength=wavelength(inv_freq).tolist(),
        methods=[bend(method) for method in STRETCHING],
    )
