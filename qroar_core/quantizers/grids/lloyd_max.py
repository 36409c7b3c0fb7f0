"""TurboQuant's K: the best levels for a normal distribution, scaled by the vector's norm."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from qroar_core.quantizers.codebook import level_spacing, table_like
from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of, symmetric_code

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS, ENOUGH, POINTS, REACH = 200, 1e-10, 200, 3.5  # of the iteration; points of an integral; standard deviations


@lru_cache(maxsize=32)
def centroids(width: int, bits: int) -> tuple[float, ...]:
    """Levels of least squared error for N(0, 1/width), ascending, 2^bits of them.

    Lloyd's iteration from evenly spaced levels; means of cells by the trapezoidal rule, outer cells cut at 10.5
    standard deviations.
    Source: vllm/model_executor/layers/quantization/turboquant/centroids.py `solve_lloyd_max` (vLLM 0.32.0).
    """
    import numpy as np

    variance, count = 1.0 / width, 2**bits
    reach = REACH * variance**0.5
    levels = -reach + 2 * reach * (np.arange(count) + 0.5) / count
    for _ in range(ROUNDS):
        edges = np.concatenate(([-3 * reach], (levels[:-1] + levels[1:]) / 2, [3 * reach]))
        points = np.linspace(edges[:-1], edges[1:], POINTS + 1)  # (points, levels)
        density = np.exp(-points * points / (2 * variance))
        mass = np.trapezoid(density, points, axis=0)
        means = np.where(mass > 1e-15, np.trapezoid(points * density, points, axis=0) / mass.clip(1e-300), levels)
        if np.abs(means - levels).max() < ENOUGH:
            break
        levels = means
    return tuple(float(level) for level in levels.astype(np.float32))


def _tables(like: Tensor, width: int, bits: int) -> tuple[Tensor, Tensor]:
    """Levels, and the midpoints that part them."""
    levels = table_like(centroids(width, bits), like)
    return levels, (levels[:-1] + levels[1:]) / 2


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """The unit vector x / |x| in the levels c for N(0, 1/d); read as |x| c / |c| ("norm correction"), |x| as stored.

    Source: vllm/v1/attention/ops/triton_turboquant_store.py `triton_turboquant_store`, triton_turboquant_decode.py
    `_tq_full_dequant_kv` with NORM_CORRECTION (vLLM 0.32.0).
    """
    import torch

    levels, midpoints = _tables(x, x.shape[dim], bits)
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    inverse = inverse_of(norm)

    def rounder(y: Tensor) -> Tensor:
        return y.copy_(levels[torch.bucketize(y, midpoints, right=True)])

    length = torch.linalg.vector_norm(rounder(x.detach() * inverse), dim=dim, keepdim=True)
    ends = float(levels[0]), float(levels[-1])
    return Grid(store(norm) / length, inverse, rounder, *ends, spacing=lambda y: level_spacing(y, levels))


LEVELS = LevelSet("Lloyd-Max by norm", 48, _grid, symmetric_code, from_block=True, floating=True)
