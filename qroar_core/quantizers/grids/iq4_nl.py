"""llama.cpp's iq4_nl: sixteen uneven levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.codebook import level_spacing, nearest_level, table_like
from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of

if TYPE_CHECKING:
    from torch import Tensor

CODES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # ggml-common.h kvalues_iq4nl
LEAST = 1e-15  # GROUP_MAX_EPS: below it a block is zero


def _levels(like: Tensor) -> Tensor:
    return table_like(CODES, like)


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """Codes l nearest to x / d0 with d0 = (signed extreme) / -127; the step that is stored is then refitted to them.

    d = sum x^2 (x l) / sum x^2 l^2, least squares weighted by x^2, in fp16.
    Source: ggml-quants.c `quantize_row_iq4_nl_ref` (`quantize_row_iq4_nl_impl` with ntry -1 and no importances).
    """
    import torch

    values = x.detach()
    levels = _levels(values)
    extreme = values.gather(dim, values.abs().argmax(dim, keepdim=True))  # the first, as ggml does
    inverse = inverse_of(extreme / CODES[0])

    def rounder(y: Tensor) -> Tensor:
        return nearest_level(y, levels)

    codes = rounder(values * inverse)
    unit = x * inverse  # so that fourth powers neither overflow nor vanish
    weight = unit.detach().square()
    fit = (weight * codes * unit).sum(dim, True) / (weight * codes.square()).sum(dim, True).clamp_min(LEAST)
    step = fit * (extreme / CODES[0])
    stored = store(torch.where(extreme.abs() < LEAST, 0.0, step))
    return Grid(stored, inverse, rounder, CODES[0], CODES[-1], spacing=lambda y: level_spacing(y, levels))


LEVELS = LevelSet("llama.cpp iq4_nl", 44, _grid, lambda bits: 127.0, from_block=True, floating=True, width=4)
