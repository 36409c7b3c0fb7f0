"""Shared behaviour of results: strict, frozen, and read from a file with one clear line on failure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, PlainSerializer, ValidationError

from qroar_core.axes import AnyNumber, axes, contradiction
from qroar_core.errors import QRoarError

DIGITS = 6  # significant digits kept in files; statistics carry fewer


def _spelled(value: float) -> float | str:
    return value if value - value == 0 else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


# A number that may be infinite and is one all the same, as e to a large NLL is. JSON has no infinity: the word that
# Python's float and JavaScript's Number both read stands there.
Unbounded = Annotated[float, PlainSerializer(_spelled, when_used="json"), AnyNumber()]

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


class Result(BaseModel):
    """A frozen model that knows how to be a file. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    def to_json(self) -> str:
        """The file's text: two-space indent, sorted as declared."""
        return json.dumps(rounded(self.model_dump(mode="json")), indent=1) + "\n"

    def as_written(self) -> Self:
        """What this result's file gives back. A stage ends with it: a number shown is the number on disk."""
        return type(self).model_validate_json(self.to_json())

    @classmethod
    def from_file(cls, path: Path, error: type[QRoarError] = QRoarError) -> Self:
        """Read and validate.

        Raises:
            error: missing, not JSON, not of this layout, or with contents that contradict each other.
        """
        try:
            found = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as problem:
            raise error("cannot be read", where=str(path), do="check the path") from problem
        except ValidationError as problem:
            first = problem.errors()[0]
            at = ".".join(str(p) for p in first["loc"]) or "the file"
            raise error(f"{at}: {first['msg']}", where=str(path), do="give a file this software wrote") from problem
        wrong = contradiction(found)
        if wrong:
            raise error(wrong, where=str(path), do="the file contradicts itself; give one this software wrote")
        return found


__all__ = ["LayerBand", "LayerHead", "LayerHeadBand", "Number", "PerBand", "Result", "Unbounded", "exp", "rounded"]
