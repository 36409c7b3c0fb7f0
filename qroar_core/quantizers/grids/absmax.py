"""Symmetric integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, absmax_of, inverse_of, symmetric_code, to_nearest

if TYPE_CHECKING:
    from torch import Tensor


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """Symmetric integers -qmax..qmax, step = store(absmax / qmax), qmax = 2^(bits-1) - 1."""
    import torch

    qmax = 2 ** (bits - 1) - 1
    step = store(absmax_of(x, dim, absmax) / qmax)
    free = absmax is None and store.dtype != torch.float16  # else fp16 underflow or a static absmax
    return Grid(step, inverse_of(step), to_nearest, *((None, None) if free else (-qmax, qmax)))


LEVELS = LevelSet("symmetric, absmax", 10, _grid, symmetric_code)
