"""From the values of a form to its spec; where they make none, the reason is shown and the spec before stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pages.views.boxes import refused
from qroar_core.errors import QRoarError

T = TypeVar("T")


def build_or_keep(build: Callable[[], T], before: T) -> T:
    """`build()`, or `before` with the reason shown."""
    try:
        return build()
    except QRoarError as problem:
        refused(problem, ". The setup before stays in force.")
        return before


def counted(spec: Any, windows: float) -> dict[str, Any]:
    """The fields of a spec that say how many windows. A number that a person changed is refused if it is too many."""
    return {"windows": int(windows), "fewer": spec.fewer and int(windows) == spec.windows}
