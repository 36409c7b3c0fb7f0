"""SGLang's fp4_e2m1: 4-bit floats, a block's scale the next power of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of
from qroar_core.quantizers.small_float import LARGEST, away, spacing

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-10


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """step = 2^ceil(log2(max(absmax / 6, 1e-10))), so that nothing saturates; ties away from zero.

    Source: sgl-project/sglang python/sglang/srt/layers/quantization/kvfp4_tensor.py
    `FP4MXBlock16KVQuantizeUtil.batched_quantize` (0dae407b).
    """
    import torch

    largest = (x.detach().abs().amax(dim, keepdim=True) / LARGEST).clamp_min(LEAST)
    step = torch.exp2(torch.ceil(torch.log2(largest)))
    return Grid(store(step), inverse_of(step), away, -LARGEST, LARGEST, spacing=spacing)


LEVELS = LevelSet("SGLang FP4", 94, _grid, lambda bits: LARGEST, from_block=True, floating=True, width=4, stored_bits=8)
