"""Standard errors of a root mean square over sampled rows, by the delta method: rows count as drawn independently."""

from __future__ import annotations

from torch import Tensor


def residuals(square: Tensor, weight: Tensor) -> Tensor:
    """What each row (last axis) adds to the error of the weighted mean of `square`; NaN where nothing has weight.

    Args:
        square: sums over a row's cells. weight: how many cells.
    """
    whole = weight.sum(-1, keepdim=True)
    rows = (weight > 0).sum(-1, keepdim=True)
    mean = square.sum(-1, keepdim=True) / whole
    return (square - mean * weight) / whole * (rows / (rows - 1)).sqrt()  # a single row: 0 times inf, which is NaN


def root_error(mean: Tensor, residual: Tensor) -> Tensor:
    """Standard error of the root of `mean` (...), from the residuals (..., rows) of the mean; NaN as they are."""
    return residual.square().sum(-1).sqrt() / (2 * mean.sqrt())
