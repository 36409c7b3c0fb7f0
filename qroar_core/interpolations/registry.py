"""Every position interpolation there is: the files of `interpolations/methods`, found by themselves."""

from __future__ import annotations

from functools import cache

from qroar_core.interpolations.base import Method
from qroar_core.interpolations.spec import ROPE_METHODS
from qroar_core.members import members_of


@cache
def interpolation_methods() -> dict[str, Method]:
    """Name -> method, the checkpoint's own first."""
    return members_of("qroar_core.interpolations.methods", ROPE_METHODS, "METHOD")


def stretching() -> dict[str, Method]:
    """The methods that stretch RoPE: all but the checkpoint's own."""
    return {name: method for name, method in interpolation_methods().items() if name != "default"}


def label_of(method: str) -> str:
    """As menus, tables and figures call it."""
    return interpolation_methods()[method].label
