"""Minimum to maximum, halves rounded up: TurboQuant's V in vLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of, symmetric_code

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-8  # the least step


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """step = max((max - min) / (2^bits - 1), 1e-8), codes floor((x - min) / step + 1/2); step and min are stored.

    Codes come from step and min before they are stored.
    Source: vllm/v1/attention/ops/triton_turboquant_store.py `_store_quantized_value` (vLLM 0.32.0).
    """
    top, low = 2**bits - 1, x.amin(dim, True)
    step = ((x.amax(dim, True) - low) / top).clamp_min(LEAST)

    def rounder(y: Tensor) -> Tensor:
        return y.add_(0.5).floor_()

    return Grid(store(step), inverse_of(step), rounder, 0, top, store(low), low, step.detach())


LEVELS = LevelSet("affine, halves up", 25, _grid, symmetric_code, from_block=True, stored=2)
