"""llama.cpp's q4_0 and q5_0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of, symmetric_code

if TYPE_CHECKING:
    from torch import Tensor


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """llama.cpp's q4_0 (q5_0): d = (signed extreme) / -2^(bits-1), codes floor(x/d + 2^(bits-1) + 1/2).

    The extreme itself takes the lowest level exactly; its opposite is clamped half a step short.
    Source: ggml-quants.c `quantize_row_q4_0_ref`.
    """
    half = 2 ** (bits - 1)
    extreme = x.gather(dim, x.detach().abs().argmax(dim, keepdim=True))  # the first, as ggml does
    step = extreme / -half

    def rounder(y: Tensor) -> Tensor:  # the sum is rounded before the floor, in ggml too
        return y.add_(half + 0.5).floor_().sub_(half)

    return Grid(store(step), inverse_of(step), rounder, -half, half - 1)


LEVELS = LevelSet("llama.cpp q4_0's", 40, _grid, symmetric_code, from_block=True)
