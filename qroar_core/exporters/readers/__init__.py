"""The runtimes that read exports, found by themselves: one file a runtime, whose name `verify --runtime` takes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from qroar_core.exporters.reader import Exported, Reader, Recipe, Served
from qroar_core.members import members_of, names_in

NAMES = names_in(Path(__file__).parent)


@cache
def readers() -> dict[str, Reader]:
    """Name -> runtime, in the order of lists."""
    return members_of("qroar_core.exporters.readers", NAMES, "READER")


def runnable() -> tuple[str, ...]:
    """Names of the runtimes that `verify --runtime` can run."""
    return tuple(name for name, reader in readers().items() if reader.module)


def limits_of(export: Exported) -> list[str]:
    """What each runtime will not do with `export`: sentences that begin with its name and version."""
    return [f"{reader.name} {limit.says}" for reader in readers().values() for limit in reader.limits_of(export)]


def recipes(served: Served) -> dict[str, Recipe]:
    """Name and version -> how that runtime is started with an export, of those that serve it."""
    made = {one.name: one.recipe(served) for one in readers().values() if one.recipe is not None}
    return {name: recipe for name, recipe in made.items() if recipe is not None}
