"""llama.cpp's q8_0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, absmax_of, inverse_of, symmetric_code

if TYPE_CHECKING:
    from torch import Tensor


def half_away(y: Tensor) -> Tensor:
    """C's roundf, in place: ties away from zero. Exact, unlike floor(|y| + 0.5)."""
    import torch

    size = y.abs()
    whole = size.floor()
    whole += (size.sub_(whole).mul_(2)).floor_()  # the fraction is exact, so is its double
    return y.copy_(torch.copysign(whole, y))


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """llama.cpp's q8_0: d = absmax / qmax, codes roundf(x * (1/d)), d stored in fp16.

    Source: ggml-quants.c `quantize_row_q8_0_ref` (its SIMD variants round ties to even).
    """
    step = absmax_of(x, dim, absmax) / (2 ** (bits - 1) - 1)
    return Grid(store(step), inverse_of(step), half_away)


LEVELS = LevelSet("llama.cpp q8_0's", 30, _grid, symmetric_code, from_block=True)
