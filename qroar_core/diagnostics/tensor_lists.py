"""Tensors as the nested lists of a result."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from qroar_core.result import DIGITS

# significant digits of the maps of largest |x|, most of a large model's file: two more would make it a quarter larger,
# and the largest of a sample, which other text moves by percents, is shown with two
MAP_DIGITS = 4


def listed(x: Tensor) -> Any:
    """Nested lists with None for what is not finite."""
    flat = [v if math.isfinite(v) else None for v in x.double().flatten().tolist()]
    return _nest(flat, tuple(x.shape))


def _nest(flat: list, shape: tuple[int, ...]) -> Any:
    if len(shape) <= 1:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def significant(x: Tensor, digits: int = DIGITS) -> Tensor:
    """To this many significant digits: those of files, by default."""
    size = 10 ** (digits - 1 - x.double().abs().clamp_min(1e-30).log10().floor())
    return (x.double() * size).round() / size
