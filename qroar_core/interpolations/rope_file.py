"""rope.json: an interpolation in a file of its own, which every command takes as `--rope FILE.json`."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from qroar_core.errors import BadSpec
from qroar_core.interpolations.registry import methods
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.interpolations.tie import tie_of_block
from qroar_core.plain_file import MIB, NotPlain, read_json, reason

FIELDS = tuple(field.name for field in fields(RopeSpec))
EXAMPLE = 'a JSON object such as {"method": "yarn", "factor": 2}'
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
    if not isinstance(content, dict):
        raise BadSpec("is no interpolation", where=where, do=f"give {EXAMPLE}")
    unknown = [name for name in content if name not in FIELDS]
    if unknown:
        raise BadSpec(f"unknown entry {unknown[0][:40]!r}", where=where, do=f"choose from {', '.join(FIELDS)}")
    missing = [name for name in ("method", "factor") if name not in content]
    if missing:
        raise BadSpec(f"it has no {missing[0]}", where=where, do=f"give {EXAMPLE}")
    try:
        for group in content["tie"] if isinstance(content.get("tie"), list) else ():
            tie_of_block(group)
    except BadSpec as problem:
        raise BadSpec(problem.what, where=where, do=problem.do) from problem
    try:
        spec = SPEC.validate_json(json.dumps(content), strict=True)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BadSpec(f"{at}: {said}" if at else said, where=where) from problem
    foreign = [name for name in content if name not in _fields_of(spec.method)]
    if foreign:
        raise BadSpec(f"{spec.method} takes no {foreign[0]}", where=where, do="leave it out")
    return spec


def _fields_of(method: str) -> tuple[str, ...]:
    """The fields of a spec that decide something under this method."""
    about = methods()[method]
    return (
        *("method", "factor", "tie"),
        *(("original_context",) if method != "default" else ()),
        *(option.field for option in about.options),
        *(("long_factor", "short_factor") if about.takes_lists else ()),
        *(("attention_factor",) if about.has_attention_factor else ()),
    )
