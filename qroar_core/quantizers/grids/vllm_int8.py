"""vLLM's int8_per_token_head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, absmax_of, inverse_of, symmetric_code

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-6  # the least step


def _half_added(y: Tensor) -> Tensor:
    """Half is added away from zero and the sum cut to an integer, in place: the sum is rounded first, in vLLM too."""
    import torch

    return y.add_(torch.copysign(torch.full_like(y, 0.5), y)).trunc_()


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """step = max(absmax / qmax, 1e-6), codes trunc(x (1/step) +- 1/2) in -2^(bits-1)..qmax.

    Source: vllm/v1/attention/ops/triton_reshape_and_cache_flash.py `_reshape_cache_per_token_head` (vLLM 0.32.0).
    """
    qmax = 2 ** (bits - 1) - 1
    step = (absmax_of(x, dim, absmax) / qmax).clamp_min(LEAST)
    return Grid(store(step), inverse_of(step), _half_added, -qmax - 1, qmax)


LEVELS = LevelSet("vLLM int8 per token", 46, _grid, symmetric_code)
