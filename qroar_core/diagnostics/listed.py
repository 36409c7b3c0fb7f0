"""Tensors as the nested lists of a result."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

MAP_DIGITS = 4  # significant digits of the channel maps, the largest part of the file


def listed(x: Tensor) -> Any:
    """Nested lists with None for what is not finite."""
    flat = [v if math.isfinite(v) else None for v in x.double().flatten().tolist()]
    return _nest(flat, tuple(x.shape))


def _nest(flat: list, shape: tuple[int, ...]) -> Any:
    if len(shape) <= 1:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def significant(x: Tensor) -> Tensor:
    """To MAP_DIGITS significant digits."""
    size = 10 ** (MAP_DIGITS - 1 - x.double().abs().clamp_min(1e-30).log10().floor())
    return (x.double() * size).round() / size
