"""Minimum to maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of, to_nearest

if TYPE_CHECKING:
    from torch import Tensor


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """min..max in 2^bits - 1 steps from a stored float minimum; a given absmax means -absmax..absmax.

    Source: KIVI quant/new_pack.py; optimum-quanto MaxOptimizer (shift = -min, zeropoint False).
    """
    top = 2**bits - 1
    low, high = (x.amin(dim, True), x.amax(dim, True)) if absmax is None else (-absmax, absmax)
    step, zero = store((high - low) / top), store(low)
    return Grid(step, inverse_of(step), to_nearest, 0, top, zero)


LEVELS = LevelSet("affine, min..max", 20, _grid, lambda bits: (2**bits - 1) / 2, stored=2)
