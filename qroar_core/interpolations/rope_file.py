"""rope.json: an interpolation in a file of its own, which every command takes as `--rope FILE.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from qroar_core.errors import BadSpec
from qroar_core.interpolations.registry import interpolation_methods
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.interpolations.tie import tie_of_block
from qroar_core.plain_file import MIB, NotPlain, read_json, reason

FIELDS = tuple(field.name for field in fields(RopeSpec))
EXAMPLE = 'a JSON object such as {"method": "yarn", "factor": 2}'
CORRECT = "correct the file"
TIED = "tied pairs"  # where a model's refusal of a tie says it is
MODELS_WORDS = (TIED, "longrope")  # ... and of a list
SPEC: TypeAdapter[RopeSpec] = TypeAdapter(RopeSpec)


def is_rope_file(name: str) -> bool:
    """Whether `--rope NAME` means a file: no method's name ends so."""
    return name.lower().endswith(".json")


def rope_text(spec: RopeSpec) -> str:
    """The file's text: every field that is not the method's own, exact; the inverse of `rope_from_file`."""
    usual = RopeSpec(spec.method, spec.factor)
    said: dict[str, Any] = {"method": spec.method, "factor": spec.factor}
    for name in FIELDS:
        if getattr(spec, name) != getattr(usual, name):
            said[name] = SPEC.dump_python(spec, mode="json")[name]
    return json.dumps(said, indent=1) + "\n"


def rope_from_file(path: Path | str) -> RopeSpec:
    """The interpolation that a file says.

    It names method and factor; the method's other numbers are its published ones where it does not give them, as on
    the command line.

    Raises:
        BadSpec: it cannot be read, has an entry that its method does not read, or numbers that it cannot take.
    """
    where = f"--rope {path}"
    try:
        content = read_json(Path(path).expanduser(), MIB)
    except (NotPlain, ValueError) as problem:
        raise BadSpec(f"cannot be read: {reason(problem)}", where=where, do=f"give {EXAMPLE}") from problem
    except OSError as problem:
        raise BadSpec(f"cannot be read: {reason(problem)}", where=where, do="check the path") from problem
    return rope_of_entries(content, where)


def rope_of_entries(content: object, where: str) -> RopeSpec:
    """The interpolation that a file's table of plain values says; `where` names the file, and the place in it.

    Raises:
        BadSpec: no table, an entry that its method does not read, or numbers that it cannot take.
    """
    if not isinstance(content, dict):
        raise BadSpec("is no interpolation", where=where, do=f"give {EXAMPLE}")
    unknown = [name for name in content if name not in FIELDS]
    if unknown:
        raise BadSpec(f"unknown entry {unknown[0][:40]!r}", where=where, do=f"choose from {', '.join(FIELDS)}")
    missing = [name for name in ("method", "factor") if name not in content]
    if missing:
        raise BadSpec(f"it has no {missing[0]}", where=where, do=f"give {EXAMPLE}")
    try:
        spec = rope_of_json(content)
    except BadSpec as problem:
        raise BadSpec(problem.what, where=where, do=problem.do) from problem
    foreign = [name for name in content if name not in _fields_of(spec.method)]
    if foreign:
        raise BadSpec(f"{spec.method} takes no {foreign[0]}", where=where, do="leave it out")
    return spec


def rope_of_json(content: Mapping[str, Any]) -> RopeSpec:
    """The interpolation of a JSON object with the fields of a spec: a number in it is a number, no text and no `true`.

    Raises:
        BadSpec: values that an interpolation cannot take.
    """
    try:
        for group in content["tie"] if isinstance(content.get("tie"), list) else ():
            tie_of_block(group)
    except BadSpec as problem:
        raise BadSpec(f"tie: {problem.what}", do=problem.do or CORRECT) from problem
    try:
        spec = SPEC.validate_json(json.dumps(content), strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False)[0]
        own, at = first.get("ctx", {}).get("error"), ".".join(str(part) for part in first["loc"])
        what, do = (own.what, own.do) if isinstance(own, BadSpec) else (first["msg"], "")
        raise BadSpec(f"{at}: {what}" if at else what, do=do or CORRECT) from problem
    for name in ("long_factor", "short_factor"):
        wrong = next((n for n in getattr(spec, name) or () if not 0 < n < math.inf), None)
        if wrong is not None:
            raise BadSpec(f"{name}: {wrong:g} is no factor of a pair", do="give numbers above 0")
    return spec


@contextmanager
def of_rope_file(path: str | None) -> Iterator[None]:
    """Name the file, and its key, where a model refuses the interpolation that it says; `path` None: no file says it.

    Raises:
        BadSpec: what was refused, of the file.
    """
    try:
        yield
    except BadSpec as problem:
        if path is None or not (problem.where in MODELS_WORDS or problem.where.startswith("--rope")):
            raise
        key = "tie: " if problem.where == TIED else ""
        raise BadSpec(f"{key}{problem.what}", where=f"--rope {path}", do=problem.do or CORRECT) from problem


def _fields_of(method: str) -> tuple[str, ...]:
    """The fields of a spec that decide something under this method."""
    about = interpolation_methods()[method]
    return (
        *("method", "factor", "tie"),
        *(("original_context",) if method != "default" else ()),
        *(option.field for option in about.options),
        *(("long_factor", "short_factor") if about.takes_lists else ()),
        *(("attention_factor",) if about.has_attention_factor else ()),
    )
