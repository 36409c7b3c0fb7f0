"""llama.cpp's q4_1 and q5_1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of, symmetric_code

if TYPE_CHECKING:
    from torch import Tensor


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """llama.cpp's q4_1 (q5_1): d = (max - min) / (2^bits - 1), codes floor((x - min)/d + 1/2), d and min in fp16.

    Codes come from d and min before they are stored.
    Source: ggml-quants.c `quantize_row_q4_1_ref`.
    """
    low = x.amin(dim, True)
    top = 2**bits - 1
    step = (x.amax(dim, True) - low) / top

    def rounder(y: Tensor) -> Tensor:
        return y.add_(0.5).floor_()

    return Grid(store(step), inverse_of(step), rounder, 0, top, store(low), low)


LEVELS = LevelSet("llama.cpp q4_1's", 42, _grid, symmetric_code, from_block=True, stored=2)
