"""The file of a sweep: a small YAML whose lists are multiplied into cells, with exclusions and a budget.

models: [demo]
ropes: [{method: yarn, factor: [2, 4]}]
quantizers: [{k: int4}, {kv: q4_0}]
remedies: [none, scales, rotation]
lengths: [1024]
texts: [technical]
seeds: [0]
windows: 4
exclude: [{quantizer: {kv: q4_0}, remedy: rotation}]
budget: {minutes: 30}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import yaml

from qroar_core.checks import at_least, briefly, of_kind, whole
from qroar_core.errors import BadSpec, QRoarError
from qroar_core.interpolations.rope_file import FIELDS, rope_of_entries
from qroar_core.models.text_choice import text_label
from qroar_core.plain_file import MIB, NotPlain, read_text, reason
from qroar_core.setup import LEAST_TOKENS, quantization
from qroar_core.sweeps.cell import AXES, Cell
from qroar_core.sweeps.remedy_words import NONE, WORDS

REQUIRED = ("models", "ropes", "quantizers")
DEFAULTS: dict[str, list[Any]] = {"remedies": [NONE], "lengths": [None], "texts": ["messages"], "seeds": [0]}
KEYS = (*AXES, "windows", "exclude", "budget")
ROPE_FIELDS = tuple(name for name in FIELDS if name != "tie")
QUANTIZER_FIELDS = tuple(inspect.signature(quantization).parameters)
SWITCHES = ("kv_rotation", "k_before_rope")
MOST_CELLS = 100_000
EXAMPLE = "models: [demo], ropes: [{method: yarn, factor: 4}], quantizers: [{k: int4}]"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one call may compute: a cell that would begin past it is left for the next call."""

    minutes: float | None = None
    cells: int | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a file asks for: its cells in the order of its lists, and the budget of one call."""

    cells: tuple[Cell, ...]
    budget: Budget = Budget()
    excluded: int = 0
    text: str = ""  # of the file


def read_sweep(path: Path | str) -> Sweep:
    """The sweep that a file says.

    Raises:
        BadSpec: it cannot be read, is no YAML, or has a key or value that is not known; names the file and the key.
    """
    try:
        text = read_text(Path(path).expanduser(), MIB)
    except (NotPlain, ValueError) as problem:
        raise BadSpec(f"cannot be read: {reason(problem)}", where=str(path), do=f"give {EXAMPLE}") from problem
    except OSError as problem:
        raise BadSpec(f"cannot be read: {reason(problem)}", where=str(path), do="check the path") from problem
    return sweep_of_text(text, str(path))


def sweep_of_text(text: str, where: str) -> Sweep:
    """The sweep that the text of a file says; `where` names the file in refusals.

    Raises:
        BadSpec: as `read_sweep`.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        at = f" at line {mark.line + 1}" if mark is not None else ""
        said = f"is no YAML{at} ({getattr(problem, 'problem', None) or reason(problem)})"
        raise BadSpec(said, where=where, do=f"write for example {EXAMPLE}") from problem
    return sweep_of(content, where, text)


def sweep_of(content: object, where: str, text: str = "") -> Sweep:
    """The sweep that a table of plain values says; `where` names it in refusals, `text` is how a file had it.

    Raises:
        BadSpec: as `read_sweep`.
    """
    if not isinstance(content, Mapping):
        raise BadSpec("is no table of lists", where=where, do=f"write for example {EXAMPLE}")
    _known(content, KEYS, where)
    for name in REQUIRED:
        if name not in content:
            raise BadSpec(f"has no {name}", where=where, do=f"write for example {EXAMPLE}")
    lists = {name: _entries(content, name, where) for name in AXES}
    windows = content.get("windows")
    if windows is not None:
        _asked(f"{where}, windows", lambda: whole("windows", windows, 2))
    count = prod(map(len, lists.values()))
    if count > MOST_CELLS:
        raise BadSpec(f"{count:,} cells", where=where, do=f"ask for at most {MOST_CELLS:,}, in several files")
    cells = [Cell(**dict(zip(AXES.values(), values)), windows=windows) for values in product(*lists.values())]
    kept = _without(cells, content.get("exclude"), f"{where}, exclude")
    if not kept:
        raise BadSpec("nothing is left after the exclusions", where=f"{where}, exclude", do="exclude less")
    budget = _budget(content.get("budget"), f"{where}, budget")
    return Sweep(tuple(kept), budget, len(cells) - len(kept), text)


def _entries(content: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """One list of the file, its entries checked and plain; a rope with several factors is several entries."""
    given = content.get(name, DEFAULTS.get(name))
    at = f"{where}, {name}"
    if not isinstance(given, list) or not given:
        raise BadSpec(f"must be a list of at least one, got {briefly(given)}", where=at, do="write [...]")
    if name not in content:
        return given
    found = [entry for index, one in enumerate(given) for entry in CHECKS[name](one, f"{at}[{index}]")]
    twice = next((one for index, one in enumerate(found) if one in found[:index]), None)
    if twice is not None:
        raise BadSpec(f"{briefly(twice)} is there twice", where=at, do="write each once")
    return found


def _ropes(given: object, at: str) -> list[dict[str, Any]]:
    if not isinstance(given, Mapping):
        raise BadSpec(f"must be a table, got {briefly(given)}", where=at, do="write {method: yarn, factor: 4}")
    _known(given, ROPE_FIELDS, at)
    own = {"factor": 1.0} if given.get("method") == "default" and "factor" not in given else {}
    factors = given.get("factor")
    several = [dict(given) | own] if not isinstance(factors, list) else [dict(given) | {"factor": f} for f in factors]
    if not several:
        raise BadSpec("factor is an empty list", where=at, do="write factor: [2, 4]")
    for one in several:
        _asked(at, lambda one=one: rope_of_entries(one, at))  # type: ignore[misc]
    return several


def _quantizers(given: object, at: str) -> list[dict[str, Any]]:
    if not isinstance(given, Mapping) or not given:
        do = "write {k: int4}, or {k: none} for full precision"
        raise BadSpec(f"must be a table, got {briefly(given)}", where=at, do=do)
    _known(given, QUANTIZER_FIELDS, at)
    for name in SWITCHES:
        if not isinstance(given.get(name, False), bool):
            raise BadSpec(f"{name} must be true or false, got {briefly(given[name])}", where=at, do="write true")
    _asked(at, lambda: quantization(**given))
    return [dict(given)]


def _remedies(given: object, at: str) -> list[str]:
    if not isinstance(given, str) or given not in WORDS:
        raise BadSpec(f"unknown remedy {briefly(given)}", where=at, do=f"choose from {', '.join(WORDS)}")
    return [given]


def _texts(given: object, at: str) -> list[str]:
    _asked(at, lambda: of_kind("a text", given, str, "a word or a path", "write technical"))
    _asked(at, lambda: text_label(str(given)))
    return [str(given)]


def _models(given: object, at: str) -> list[str]:
    if not isinstance(given, str) or not given.strip():
        raise BadSpec(f"must be a model, got {briefly(given)}", where=at, do="write demo, a folder or a hub name")
    return [given]


def _whole(least: int) -> Callable[[object, str], list[Any]]:
    def check(given: Any, at: str) -> list[Any]:
        _asked(at, lambda: whole("it", given, least))
        return [int(given)]

    return check


CHECKS: dict[str, Callable[[object, str], list[Any]]] = {
    "models": _models,
    "ropes": _ropes,
    "lengths": _whole(LEAST_TOKENS),
    "quantizers": _quantizers,
    "remedies": _remedies,
    "texts": _texts,
    "seeds": _whole(0),
}


def _without(cells: list[Cell], given: object, where: str) -> list[Cell]:
    """The cells that no exclusion matches."""
    if given is None:
        return cells
    if not isinstance(given, list):
        do = "write [{quantizer: {kv: q4_0}, remedy: rotation}]"
        raise BadSpec(f"must be a list of tables, got {briefly(given)}", where=where, do=do)
    gone: set[int] = set()
    for index, one in enumerate(given):
        at = f"{where}[{index}]"
        if not isinstance(one, Mapping) or not one:
            raise BadSpec(f"must be a table, got {briefly(one)}", where=at, do="write {remedy: rotation}")
        _known(one, tuple(AXES.values()), at)
        mine = {n for n, cell in enumerate(cells) if all(_alike(getattr(cell, name), x) for name, x in one.items())}
        if not mine:
            raise BadSpec("matches no cell", where=at, do="drop it, or write it as the lists have it")
        gone |= mine
    return [cell for index, cell in enumerate(cells) if index not in gone]


def _alike(value: Any, asked: Any) -> bool:
    """Is a cell's value what an exclusion asks for: equal, one of a list, or a table that has all of its entries?"""
    if isinstance(asked, list):
        return any(_alike(value, one) for one in asked)
    if isinstance(asked, Mapping) and isinstance(value, Mapping):
        return all(name in value and _alike(value[name], one) for name, one in asked.items())
    return bool(value == asked)


def _budget(given: object, where: str) -> Budget:
    if given is None:
        return Budget()
    if not isinstance(given, Mapping):
        raise BadSpec(f"must be a table, got {briefly(given)}", where=where, do="write {minutes: 30}")
    _known(given, ("minutes", "cells"), where)
    minutes, cells = given.get("minutes"), given.get("cells")
    if minutes is not None:
        _asked(where, lambda: at_least("minutes", minutes, 0))
    if cells is not None:
        _asked(where, lambda: whole("cells", cells, 0))
    return Budget(minutes, cells)


def _known(given: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise BadSpec(f"unknown key {briefly(unknown)}", where=where, do=f"choose from {', '.join(known)}")


def _asked(where: str, check: Callable[[], object]) -> None:
    """Run a check that knows nothing of the file, and name the file and the key in what it refuses."""
    try:
        check()
    except QRoarError as problem:
        raise BadSpec(problem.what, where=where, do=problem.do or "give another value") from problem
