"""NVFP4: 4-bit floats, a block's scale an 8-bit float."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of
from qroar_core.quantizers.small_float import LARGEST, spacing, to_even

if TYPE_CHECKING:
    from torch import Tensor


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """step = e4m3(absmax / 6), saturated at 448; codes x / step to the nearest E2M1, ties to even.

    The runtimes' second scale, one number a layer, is 1.
    Source: vllm/csrc/libtorch_stable/nvfp4_kv_cache_kernels.cu, quantization/fp4/nvfp4_utils.cuh
    `cvt_warp_fp16_to_fp4` (0cd789b3), whose reciprocals are approximate.
    """
    import torch

    whole = x.abs().amax(dim, keepdim=True) / LARGEST
    stored = whole.detach().clamp_max(448.0).to(torch.float8_e4m3fn).to(x.dtype)
    step = whole + (stored - whole.detach()) if whole.requires_grad else stored
    divisor = torch.where(stored == 0, 1.0, stored)
    return Grid(store(step), inverse_of(step), to_even, -LARGEST, LARGEST, divisor=divisor, spacing=spacing)


LEVELS = LevelSet("NVFP4", 90, _grid, lambda bits: LARGEST, from_block=True, floating=True, width=4, stored_bits=8)
