"""MXFP4: 4-bit floats, a block's scale a power of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, inverse_of
from qroar_core.quantizers.small_float import LARGEST, spacing, to_even

if TYPE_CHECKING:
    from torch import Tensor

UP_FROM = 1.75  # a mantissa that would be rounded to 2 at one bit more than E2M1 has: the block's scale doubles


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """step = 2^(e - 2), e = floor(log2(absmax)), one more where the mantissa is 1.75 or above; ties to even.

    Source: vllm-project/compressed-tensors quantization/utils/mxfp_utils.py `generate_mx_scales`, `round_to_power_2`
    (0.20.0), after vLLM's tests/quantization/reference_mxfp4.py; the format is OCP Microscaling Formats 1.0.
    """
    import torch

    mantissa, exponent = torch.frexp(x.detach().abs().amax(dim, keepdim=True))  # mantissa from 1/2 to 1
    exponent = exponent - 1 + (2 * mantissa >= UP_FROM).to(exponent.dtype) - 2
    step = torch.where(mantissa == 0, 0.0, torch.ldexp(torch.ones_like(mantissa), exponent.clamp(-127, 127)))
    return Grid(store(step), inverse_of(step), to_even, -LARGEST, LARGEST, spacing=spacing)


LEVELS = LevelSet("MXFP4", 92, _grid, lambda bits: LARGEST, from_block=True, floating=True, width=4, stored_bits=8)
