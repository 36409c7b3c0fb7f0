"""The runtimes that read exports, found by themselves: one file a runtime, whose name `verify --runtime` takes."""

from __future__ import annotations

from dataclasses import replace
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
    found = {}
    for one in readers().values():
        if one.recipe is not None and (recipe := one.recipe(served)) is not None:
            found[one.name] = recipe if one.keeps_layers else _with_layers(recipe, one, served)
    return found


def _with_layers(recipe: Recipe, reader: Reader, served: Served) -> Recipe:
    """The recipe of a runtime that rounds the cache of every layer, said where this setup keeps some."""
    kept = ", ".join(map(str, served.quant.keep_layers))
    if not kept or not served.rounds_cache:
        return recipe
    said = (
        f"This setup keeps the cache of layers {kept} from quantization; {reader.label} has no option for that and "
        "rounds every layer's, so measure what you will serve."
    )
    return replace(recipe, notes=(*recipe.notes, said))
