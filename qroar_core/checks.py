"""Shared checks of specs: one line for a value outside what the software can compute."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import MISSING, fields
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, get_args

from qroar_core.errors import BadSpec

LONG = 80  # characters of a value in a message
# kinds of value by how a field is annotated, and their words
NUMBERS: dict[str, tuple[type, str]] = {"int": (Integral, "a whole number"), "float": (Real, "a number")}
LISTS = {"tuple[int, ...]": ("int", "a list of whole numbers"), "tuple[float, ...]": ("float", "a list of numbers")}


def one_of(name: str, value: object, kind: Any) -> None:
    """Raises BadSpec, listing the known values, when `value` is not one of the Literal `kind`."""
    member_of(name, value, get_args(kind))


def member_of(name: str, value: object, known: Collection[str]) -> None:
    """Raises BadSpec, listing the known values, when `value` is not one of them."""
    if value not in known:
        raise BadSpec(f"unknown {name} {value!r}", do=f"choose one of {', '.join(known)}")


def of_kind(name: str, value: object, kinds: type | tuple[type, ...], words: str, do: str = "") -> None:
    """Raises BadSpec when `value` is of none of the kinds; True and False are no numbers."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise BadSpec(f"{name} must be {words}, got {briefly(value)}", do=do)


def briefly(value: object) -> str:
    """`repr` in one line; of a long one the first words, and a sign that there is more."""
    said = " ".join(repr(value).split())
    return said if len(said) <= LONG else f"{said[:LONG].rsplit(' ', 1)[0].rstrip(',:;')} ..."


def at_least(name: str, value: float, least: float) -> None:
    """Raises BadSpec when `value` is no number, below `least`, NaN, or infinite."""
    of_kind(name, value, Real, "a number")
    if not least <= value < math.inf:
        raise BadSpec(f"{name} must be at least {least} and finite, got {value}", do=f"give {least:g} or more")


def whole(name: str, value: float, least: int) -> None:
    """Raises BadSpec when `value` is no whole number, or below `least`."""
    of_kind(name, value, Integral, "a whole number", f"give {least} or more")
    at_least(name, value, least)


def path_of(name: str, value: object, do: str) -> Path:
    """The path that a person gave; raises BadSpec when `value` is none."""
    of_kind(name, value, (str, PathLike), "given a path", do)
    return Path(value).expanduser()  # type: ignore[arg-type]


def check_numbers(spec: Any, **do: str) -> None:
    """Raises BadSpec, naming the field, where one that is annotated as a number, or a list of numbers, holds no such.

    A list is kept as a tuple, so that the spec stays a value.

    Args:
        spec: a frozen dataclass whose module postpones its annotations.
        do: what to do about a field, by its name, where the general advice would not help.
    """
    for field in fields(spec):
        kind, _, rest = str(field.type).partition(" | ")
        value = getattr(spec, field.name)
        if value is None and rest == "None":
            continue
        if kind in NUMBERS:
            of_kind(field.name, value, *NUMBERS[kind], do.get(field.name) or _number_like(field.default))
        elif kind in LISTS:
            of_kind(field.name, value, (tuple, list), LISTS[kind][1], do.get(field.name, "give a list"))
            for item in value:
                of_kind(f"each of {field.name}", item, *NUMBERS[LISTS[kind][0]], do.get(field.name, ""))
            object.__setattr__(spec, field.name, tuple(value))


def _number_like(default: object) -> str:
    """What to give for a number that goes by this default."""
    if default is None:
        return "give one, or leave it out"
    return "" if default is MISSING else f"give one such as {default}"


class Compact:
    """`repr` of a frozen dataclass by what differs from its defaults: `SearchSpec(windows=4)`.

    PUBLIC is the name that the library has for the class, so that a person can paste what is printed.
    """

    __slots__ = ()
    PUBLIC: ClassVar[str] = ""

    def __repr__(self) -> str:
        said = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                said.append(f"{field.name}={self._value_text(field.name, value)}")
        return f"{self.PUBLIC or type(self).__name__}({', '.join(said)})"

    def _value_text(self, name: str, value: object) -> str:
        """How `repr` writes the value of a field."""
        return repr(value)
