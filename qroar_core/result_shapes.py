"""Does a result fit together? Lists against each other and against the sizes named beside them, and every number.

A field says by `Axes` what its lists are indexed by: lists indexed by the same word are equally long, all through one
file. A class may add three things: `LOCAL`, words that mean something of its own in it; `sizes()`, lengths that other
fields name; `contradictions()`, whatever else cannot be. Of an interval both ends are there, in their order; no
standard error is below zero. All of it is asked when a file is read, not while a stage computes: what is asked of a
foreign file is no reason to lose the work of an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from pydantic import BaseModel

LARGEST = 1e100  # of a number that is no `Unbounded`: its square is still a number
ANY = "any"  # an axis that no other list shares; may be empty
Sizes = dict[str, tuple[int, str]]  # word -> length, and where it stands
Scopes = tuple[tuple[frozenset[str] | None, Sizes], ...]  # innermost first; None: every word


@dataclass(frozen=True, slots=True)
class Axes:
    """What a nested list is indexed by, outermost first.

    A list may be empty where its field is empty by default, where `empty` says so, or along `ANY`. In a dict `{}` is
    the key: lists of one key are equally long, those of another may differ.
    """

    names: tuple[str, ...]
    empty: bool = False
    least: float = -LARGEST  # of its numbers
    most: float = LARGEST

    def __len__(self) -> int:
        return len(self.names)


def axes(*names: str, empty: bool = False, least: float = -LARGEST, most: float = LARGEST) -> Axes:
    """An `Axes`, shorter to write behind a type."""
    return Axes(names, empty, least, most)


NUMBERS = {float, int, bool, type(None)}


class AnyNumber:
    """Marks a float that may be infinite."""


@dataclass(frozen=True, slots=True)
class IndexedField:
    """A field of a result with what its lists are indexed by, from its own annotation or from its type's."""

    name: str
    axes: Axes
    bounded: bool  # False: its numbers may be infinite


@cache
def indexed_fields(kind: type[BaseModel]) -> tuple[IndexedField, ...]:
    """All fields of a result class that are in its file."""
    out = []
    for name, field in kind.model_fields.items():
        if field.exclude:
            continue
        outermost = (one for one in reversed(field.metadata) if isinstance(one, Axes))  # a type's own come first
        said = next(chain(outermost, _axes_of(field.annotation)), Axes(()))
        unset = not field.is_required() and not field.get_default(call_default_factory=True)
        least = max(said.least, 0.0) if name == "se" or name.endswith("_se") else said.least
        rule = Axes(said.names, said.empty or unset, least, said.most)
        out.append(IndexedField(name, rule, not any(isinstance(one, AnyNumber) for one in field.metadata)))
    return tuple(out)


@cache
def _intervals(kind: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    """Fields that are the two ends of an interval, by their names."""
    ends = ((name, f"{name.removesuffix('low')}high") for name in kind.model_fields if name.endswith("low"))
    return tuple((low, high) for low, high in ends if high in kind.model_fields)


def _axes_of(kind: Any) -> Iterator[Axes]:
    """The `Axes` in a type, outermost first."""
    for one in reversed(getattr(kind, "__metadata__", ())):
        if isinstance(one, Axes):
            yield one
    for inner in getattr(kind, "__args__", ()):
        yield from _axes_of(inner)


class _Wrong(Exception):
    """What does not fit, in a few words."""


def contradiction(found: BaseModel) -> str:
    """What does not fit in this result, in a few words; "" where everything does."""
    try:
        _check_model(found, "", ((None, {}),))
    except _Wrong as wrong:
        return str(wrong)
    return ""


def _check_model(found: BaseModel, at: str, scopes: Scopes) -> None:
    local = getattr(type(found), "LOCAL", ())
    if local:
        scopes = ((frozenset(local), {}), *scopes)
    sizes = getattr(found, "sizes", None)
    for name, (size, where) in sizes().items() if callable(sizes) else ():
        _fit(name, size, _under(at, where), scopes)
    for field in indexed_fields(type(found)):
        value = getattr(found, field.name)
        if value is not None and field.bounded:
            _check(value, field.axes.names, field.axes, _under(at, field.name), scopes)
    for low, high in _intervals(type(found)):
        least, most = getattr(found, low), getattr(found, high)
        if (least is None) != (most is None):
            raise _Wrong(f"{_under(at, low)} and {high}: only one of them is there")
        if isinstance(least, float) and isinstance(most, float) and least > most:
            raise _Wrong(f"{_under(at, low)}: {least:g}, {high} is {most:g}")
    own = getattr(found, "contradictions", None)
    for problem in own() if callable(own) else ():
        raise _Wrong(_under(at, problem))


def _check(value: Any, names: tuple[str, ...], rule: Axes, at: str, scopes: Scopes) -> None:
    if isinstance(value, list | tuple):
        if value or not rule.empty:
            _check_list(value, names, rule, at, scopes)
    elif isinstance(value, dict):
        for key, inner in value.items():
            of_key = tuple(name.replace("{}", str(key)[:40]) for name in names)
            each = Axes(of_key, False, rule.least, rule.most)  # the table may be empty, what stands in it may not
            _check(inner, of_key, each, _under(at, str(key)[:40]), scopes)
    elif isinstance(value, BaseModel):
        _check_model(value, at, scopes)
    elif isinstance(value, int | float):
        _check_numbers((value,), rule, at)


def _check_list(values: Sequence[Any], names: tuple[str, ...], rule: Axes, at: str, scopes: Scopes) -> None:
    """All rows of a level at once: there are many rows of few numbers."""
    level, depth = [values], 0
    while True:
        if names[depth:]:
            for length in set(map(len, level)):
                _fit(names[depth], length, at, scopes)
        flat = list(chain.from_iterable(level))
        kinds = set(map(type, flat))
        if kinds <= NUMBERS:
            return _check_numbers(flat, rule, at)
        if not kinds <= {list, tuple}:
            break
        level, depth = flat, depth + 1
    inner = Axes(rule.names, False, rule.least, rule.most)  # only the whole list may be empty
    for i, one in enumerate(flat):
        _check(one, names[depth + 1 :], inner, f"{at}.{i}", scopes)


def _check_numbers(values: Iterable[Any], rule: Axes, at: str) -> None:
    known = [value for value in values if value is not None]
    if not known:
        return
    total, low, high = sum(known), min(known), max(known)  # NaN stays in the sum, whatever is beside
    if total != total or low < -LARGEST or high > LARGEST:
        raise _Wrong(f"{at}: a number that is not finite or absurdly large")
    if low < rule.least:
        raise _Wrong(f"{at}: {low:g} is below {rule.least:g}")
    if high > rule.most:
        raise _Wrong(f"{at}: {high:g} is above {rule.most:g}")


def _fit(name: str, size: int, at: str, scopes: Scopes) -> None:
    if name == ANY:
        return
    if size < 1:
        raise _Wrong(f"{at}: no {name.replace('_', ' ')} in it")
    for words, sizes in scopes:
        if words is None or name in words:
            known, where = sizes.setdefault(name, (size, at))
            if known != size:
                raise _Wrong(f"{at}: {size} by {name.replace('_', ' ')}, {where} has {known}")
            return


def _under(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


__all__ = ["ANY", "LARGEST", "AnyNumber", "Axes", "IndexedField", "Sizes", "axes", "contradiction", "indexed_fields"]
