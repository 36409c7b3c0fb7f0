"""What a diagnostic says of itself: the `DIAGNOSTIC` of its folder, which `qroar_core.diagnostics.registry` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One diagnostic; its folder has its maths, its result and its figures.

    Args:
        label: as a heading and lists have it.
        place: in lists, the lowest first.
        page: the page of the dashboard that shows it, by its name in the menu.
        fields: of `Diagnosis` that it fills. Empty: its result is in `Diagnosis.others` under the folder's name, the
            folder's `result.py` has its type as `RESULT`, and `measure.py` what measures it as `RECORDER`.
        frequencies: whether it follows from RoPE's frequencies, so that each group of layers that turns is asked.
    """

    label: str
    place: int
    page: str
    fields: tuple[str, ...] = ()
    frequencies: bool = False
