"""Shared checks of specs: one line for a value outside what the software can compute."""

from __future__ import annotations

import math
from typing import Any, get_args

from qroar_core.errors import BadSpec


def one_of(name: str, value: object, kind: Any) -> None:
    """Raises BadSpec, listing the known values, when `value` is not one of the Literal `kind`."""
    if value not in get_args(kind):
        raise BadSpec(f"unknown {name} {value!r}", do=f"choose one of {', '.join(get_args(kind))}")


def at_least(name: str, value: float, least: float) -> None:
    """Raises BadSpec when `value` is below `least`, NaN, or infinite."""
    if not least <= value < math.inf:
        raise BadSpec(f"{name} must be at least {least} and finite, got {value}")
