"""MLX's affine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of, symmetric_code, to_nearest

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-7  # mlx/backend/cpu/quantized.cpp, quantize(): the least step


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """MLX's affine: the edge of larger magnitude is exact and zero falls on the grid.

    s = +-max((max - min)/n, 1e-7), positive when the edge e is the minimum; q0 = round(e / s);
    then s = e / q0, bias = e. Codes use s and e in fp32, the array dtype is stored.
    Source: ml-explore/mlx mlx/backend/cpu/quantized.cpp `quantize` (0e18bb05).
    """
    import torch

    top = 2**bits - 1
    low, high = x.amin(dim, True), x.amax(dim, True)
    from_low = low.abs() > high.abs()
    edge = torch.where(from_low, low, high)
    step = ((high - low) / top).clamp_min(EPS)
    step = torch.where(from_low, step, -step)
    q0 = (edge / step).detach().round_()
    step = torch.where(q0 != 0, edge / torch.where(q0 != 0, q0, 1.0), step)
    offset = torch.where(q0 != 0, edge, 0.0)
    return Grid(store(step), inverse_of(step), to_nearest, 0, top, store(offset), offset, step.detach())


LEVELS = LevelSet("MLX affine", 50, _grid, symmetric_code, from_block=True, stored=2)
