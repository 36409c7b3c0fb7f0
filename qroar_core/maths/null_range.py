"""What the draws of a null lie in."""

from __future__ import annotations

import math

from torch import Tensor


def null_range(draws: Tensor, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    """What at least `confidence` of the draws (axis 0) lie in, as many left out below as above; (low, high).

    Never narrower than that: few draws leave none out, and then nothing that is one of them lies outside.
    """
    kept = draws.sort(0).values
    out = math.floor((1 - confidence) / 2 * (len(kept) - 1))
    return kept[out], kept[len(kept) - 1 - out]
