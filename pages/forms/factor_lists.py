"""LongRoPE's factor lists as text and back: what a person pastes from a config or a paper's table."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from qroar_core.errors import BadSpec

Factors = tuple[float, ...]


def parse_lists(text: str) -> tuple[Factors | None, Factors | None]:
    """(long_factor, short_factor) of numbers apart by commas or blanks, a JSON list, or a `rope_scaling` block.

    Raises:
        BadSpec: anything else, or a number that is not finite and positive.
    """
    if not text.strip():
        return None, None
    try:
        content = json.loads(text) if text.lstrip()[0] in "[{" else re.split(r"[,;\s]+", text.strip(" ,;\n\t"))
        block = content if isinstance(content, dict) else {"long_factor": content}
        if "long_factor" not in block:
            raise ValueError("no long_factor in it")
        return _numbers(block["long_factor"]), _numbers(block["short_factor"]) if "short_factor" in block else None
    except (ValueError, TypeError) as problem:
        raise BadSpec(
            "these are not LongRoPE's factor lists",
            do="paste numbers, a JSON list, or a JSON block with long_factor and short_factor",
        ) from problem


def write_lists(long: Factors | None, short: Factors | None) -> str:
    """Inverse of `parse_lists`."""
    if long is None:
        return ""
    if short is None:
        return ", ".join(f"{number:g}" if float(f"{number:g}") == number else repr(number) for number in long)
    return json.dumps({"long_factor": long, "short_factor": short})


def _numbers(values: Any) -> Factors:
    if not isinstance(values, list) or not values:
        raise ValueError("not a list")
    numbers = tuple(float(value) for value in values)
    if not all(0 < number < math.inf for number in numbers):
        raise ValueError("a factor must be finite and positive")
    return numbers
