"""Lesson 2: pairs slower than the trained window never complete a turn; a longer context shows new angles."""

from __future__ import annotations

from functools import lru_cache

from qroar_core.interpolations.bands import turns_per_window
from qroar_core.lessons.heads import REMEMBERED, Head, native, wavelength
from qroar_core.lessons.result import Window
from qroar_core.maths.aliasing import unseen_phase_fraction


@lru_cache(REMEMBERED)
def window(head: Head, length: int) -> Window:
    """Every pair of `head` without interpolation, read to `length` >= L0 tokens."""
    inv_freq = native(head)
    turns = turns_per_window(inv_freq, head.original_context)
    seen = turns.clamp(max=1)
    reached = turns_per_window(inv_freq, length).clamp(max=1)
    return Window(
        original_context=head.original_context,
        length=length,
        wavelength=wavelength(inv_freq).tolist(),
        turns=turns.tolist(),
        seen=seen.tolist(),
        new=(reached - seen).clamp(min=0).tolist(),
        unseen=unseen_phase_fraction(inv_freq, inv_freq, head.original_context, length).tolist(),
    )
