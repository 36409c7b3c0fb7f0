"""ExLlamaV3's: levels midway between even cells, none of them at zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of, symmetric_code

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-10  # is added to a set's largest magnitude


def _in_its_cell(y: Tensor) -> Tensor:
    return y.floor_().add_(0.5)


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """2^bits cells of width s / 2^(bits-1) from -s to s = absmax + 1e-10, each read as its middle; s is stored.

    Source: turboderp-org/exllamav3 exllamav3_ext/cache/q_cache_kernels.cuh `quant_block_x4`, `dequant_block_x4`
    with compand_a 0 (4f8ad012, 1.4.1).
    """
    half = 2 ** (bits - 1)
    reach = x.abs().amax(dim, keepdim=True) + LEAST
    return Grid(store(reach) / half, inverse_of(reach / half), _in_its_cell, 0.5 - half, half - 0.5)


LEVELS = LevelSet("midpoints of even cells", 47, _grid, symmetric_code, from_block=True)
