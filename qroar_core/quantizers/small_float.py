"""The eight magnitudes of a 4-bit float (E2M1), as FP4 caches round to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 6.0  # of 0, 1/2, 1, 3/2, 2, 3, 4, 6


def spacing(scaled: Tensor) -> Tensor:
    """Between the two numbers around each: 1/2 below 2, 1 below 4, then 2."""
    import torch

    size = scaled.abs().clamp(1.0, 4.0)
    return torch.ldexp(torch.full_like(size, 0.5), torch.frexp(size).exponent - 1)  # floor(log2(size))


def to_even(y: Tensor) -> Tensor:
    """In place; ties go to the number whose mantissa bit is 0, what lies beyond saturates.

    Source: `cvt.rn.satfinite.e2m1x2.f32` as vllm/csrc/libtorch_stable/nvfp4_kv_cache_kernels.cu writes it out.
    """
    gap = spacing(y)
    return y.div_(gap).round_().mul_(gap).clamp_(-LARGEST, LARGEST)


def away(y: Tensor) -> Tensor:
    """In place; ties go away from zero. Source: sglang's kvfp4_tensor.py, `abs_vals >= bounds`."""
    import torch

    gap = spacing(y)
    size = y.abs().div_(gap).add_(0.5).floor_().mul_(gap).clamp_max_(LARGEST)
    return y.copy_(torch.copysign(size, y))
