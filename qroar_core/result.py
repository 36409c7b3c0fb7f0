"""Shared behaviour of results: strict, frozen, and read from a file with one clear line on failure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, PlainSerializer, ValidationError
from pydantic_core import CoreSchema

from qroar_core.errors import QRoarError
from qroar_core.plain_file import MIB, NotPlain, read_json, reason
from qroar_core.result_shapes import AnyNumber, axes, contradiction

DIGITS = 6  # significant digits kept in files; maps of largest |x| hold fewer (diagnostics/tensor_lists.py)


def _number_or_word(value: float) -> float | str:
    return value if value - value == 0 else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


# A number that may be infinite and is one all the same, as e to a large NLL is. JSON has no infinity: the word that
# Python's float and JavaScript's Number both read stands there.
Unbounded = Annotated[float, PlainSerializer(_number_or_word, when_used="json"), AnyNumber()]

Number = float | None  # None: no data, as in an empty bin or where nothing is quantized
# A field that holds the same nested list indexed by other words says so itself: Annotated[LayerBand, axes(...)]
PerBand = Annotated[list[Number], axes("band")]
LayerBand = Annotated[list[list[Number]], axes("layer", "band")]
LayerHead = Annotated[list[list[Number]], axes("layer", "kv_head")]
LayerHeadBand = Annotated[list[list[list[Number]]], axes("layer", "kv_head", "band")]


def exp(nats: float) -> float:
    """e to the power of nats: of a mean NLL the perplexity. Past the largest float (709.8 nats) it is infinite."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def rounded(value: Any) -> Any:
    """Floats of a nested structure to DIGITS significant digits, non-finite ones to None."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if value - value == 0 else None
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return value


def _fail_fast(schema: Any) -> None:
    """Every list and table in a schema ends at its first fault."""
    if isinstance(schema, dict):
        if schema.get("type") in ("list", "tuple", "set", "dict"):
            schema["fail_fast"] = True
        for inner in schema.values():
            _fail_fast(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _fail_fast(inner)


class Result(BaseModel):
    """A frozen model that knows how to be a file. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")
    MOST: ClassVar[int] = 16 * MIB  # bytes of its file, many times what a real one has

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The first fault of a list ends its reading: one line is said of a file, and each fault takes memory."""
        schema = handler(source)
        _fail_fast(schema)
        return schema

    def to_json(self) -> str:
        """The file's text: JSON indented by one space, keys in the order of the fields, numbers to DIGITS digits."""
        return json.dumps(rounded(self.model_dump(mode="json")), indent=1) + "\n"

    def as_written(self) -> Self:
        """What this result's file gives back. A stage ends with it: a number shown is the number on disk."""
        return type(self).model_validate(rounded(self.model_dump(mode="json")))

    @classmethod
    def from_file(cls, path: Path, error: type[QRoarError] = QRoarError) -> Self:
        """Read and validate.

        Raises:
            error: missing, no plain file, too large, not JSON, not of this layout, or with contents that contradict
                each other.
        """
        try:
            content = read_json(path, cls.MOST)
        except (NotPlain, ValueError) as problem:
            said = f"cannot be read: {reason(problem)}"
            raise error(said, where=str(path), do="give a file this software wrote") from problem
        except OSError as problem:
            raise error("cannot be read", where=str(path), do="check the path") from problem
        try:
            found = cls.model_validate(content)  # a fault found in JSON's own text would copy all of it
        except ValidationError as problem:
            first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
            at = ".".join(str(p) for p in first["loc"]) or "the file"
            raise error(
                f"{at}: {first['msg'].removeprefix('Value error, ')}",
                where=str(path),
                do="give a file this software wrote",
            ) from problem
        wrong = contradiction(found)
        if wrong:
            raise error(wrong, where=str(path), do="the file contradicts itself; give one this software wrote")
        return found


__all__ = ["LayerBand", "LayerHead", "LayerHeadBand", "Number", "PerBand", "Result", "Unbounded", "exp", "rounded"]
