"""Every kind of transform: the folders of `transforms/kinds`, found by themselves. Nothing else lists them.

It imports what they say of themselves, and none of their files: `figures` and `refusals` find those.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path

from qroar_core.members import folders_in, members_of
from qroar_core.transforms.kind import Kind, Switch

_PACKAGE = "qroar_core.transforms.kinds"


@cache
def kinds() -> dict[str, Kind]:
    """Name -> kind, in the order of lists."""
    return members_of(_PACKAGE, folders_in(Path(__file__).parent / "kinds"), "KIND")


@cache
def switches() -> dict[str, Switch]:
    """Name -> switch of every kind that is searched only where it is asked for."""
    return {name: kind.switch for name, kind in kinds().items() if kind.switch is not None}


def with_needed(names: Collection[str]) -> set[str]:
    """These kinds, and those that they need."""
    return {*names, *(need for name in names for need in switches()[name].needs)}


def flag(name: str) -> str:
    """The option of the command line."""
    return f"--{name.replace('_', '-')}"
