"""The grids of levels a runtime rounds to, one function per family, all of one signature.

Every quantizer here is  x^ = zero + step * clamp(round((x - zero) * inverse), low, high).
A chooser looks at the numbers that share one scale and returns that `Grid`. `step` and `zero` are what
the runtime stores, already rounded to its scale dtype; `inverse` is what it multiplies by before it
rounds, which for llama.cpp and MLX is the reciprocal of the step *before* storage. Scales are tiny
beside the numbers they scale, so all care for zeros and storage happens on them, and the hot loop of
`quantize.py` stays three elementwise operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.specs import Levels, QuantizerSpec

FLOAT8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
MLX_EPS = 1e-7  # mlx/backend/cpu/quantized.cpp, quantize(): the least step
Rounder = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Storage:
    """Rounds a scale to the dtype the runtime keeps it in, and back; gradients pass straight through."""

    dtype: torch.dtype

    def __call__(self, scale: Tensor) -> Tensor:
        if torch.promote_types(self.dtype, scale.dtype) == self.dtype:
            return scale  # wide enough to hold it
        stored = scale.detach().to(self.dtype).to(scale.dtype)
        return scale + (stored - scale.detach()) if scale.requires_grad else stored


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """One scale's levels; tensors broadcast against the numbers that share it."""

    step: Tensor  # as stored
    inverse: Tensor  # detached; 0 where the step vanishes, so that zeros stay zero
    rounder: Rounder  # in place; rounds to the codes
    low: float | None = None  # clamp of the codes, where it can bind
    high: float | None = None
    zero: Tensor | None = None  # as stored; x of code 0
    offset: Tensor | None = None  # zero before storage, where the runtime subtracts that one


def inverse_of(step: Tensor) -> Tensor:
    """1/step, and 0 where step is zero or below the normal range (its reciprocal would overflow)."""
    step = step.detach()
    return torch.where(step.abs() < torch.finfo(step.dtype).tiny, 0.0, step.reciprocal())


def half_away(y: Tensor) -> Tensor:
    """C's roundf, in place: ties away from zero. Exact, unlike floor(|y| + 0.5)."""
    size = y.abs()
    whole = size.floor()
    whole += (size.sub_(whole).mul_(2)).floor_()  # the fraction is exact, so is its double
    return y.copy_(torch.copysign(whole, y))


def _absmax_of(x: Tensor, dim: int, absmax: Tensor | None) -> Tensor:
    return x.abs().amax(dim, keepdim=True) if absmax is None else absmax


def absmax_grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """Symmetric integers -qmax..qmax, step = store(absmax / qmax), qmax = 2^(bits-1) - 1."""
    qmax = 2 ** (bits - 1) - 1
    step = store(_absmax_of(x, dim, absmax) / qmax)
    free = absmax is None and store.dtype != torch.float16  # else fp16 underflow or a static absmax
    return Grid(step, inverse_of(step), torch.round_, *((None, None) if free else (-qmax, qmax)))


def affine_grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """min..max in 2^bits - 1 steps from a stored float minimum; a given absmax means -absmax..absmax.

    Source: KIVI quant/new_pack.py; optimum-quanto MaxOptimizer (shift = -min, zeropoint False).
    """
    top = 2**bits - 1
    low, high = (x.amin(dim, True), x.amax(dim, True)) if absmax is None else (-absmax, absmax)
    step, zero = store((high - low) / top), store(low)
    return Grid(step, inverse_of(step), torch.round_, 0, top, zero)


def ggml_absmax_grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """llama.cpp's q8_0: d = absmax / qmax, codes roundf(x * (1/d)), d stored in fp16.

    Source: ggml-quants.c `quantize_row_q8_0_ref` (its SIMD variants round ties to even).
    """
    step = _absmax_of(x, dim, absmax) / (2 ** (bits - 1) - 1)
    return Grid(store(step), inverse_of(step), half_away)


def ggml_signed_grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """llama.cpp's q4_0 (q5_0): d = (signed extreme) / -2^(bits-1), codes floor(x/d + 2^(bits-1) + 1/2).

    The extreme itself takes the lowest level exactly; its opposite is clamped half a step short.
    Source: ggml-quants.c `quantize_row_q4_0_ref`.
    """
    if absmax is not None:
        raise BadSpec("ggml_signed takes its scale from each block; it has no static absmax")
    half = 2 ** (bits - 1)
    extreme = x.gather(dim, x.detach().abs().argmax(dim, keepdim=True))  # the first, as ggml does
    step = extreme / -half

    def rounder(y: Tensor) -> Tensor:  # the sum is rounded before the floor, in ggml too
        return y.add_(half + 0.5).floor_().sub_(half)

    return Grid(store(step), inverse_of(step), rounder, -half, half - 1)


def mlx_affine_grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """MLX's affine: the edge of larger magnitude is exact and zero falls on the grid.

    s = +-max((max - min)/n, 1e-7), positive when the edge e is the minimum; q0 = round(e / s);
    then s = e / q0, bias = e. Codes use s and e in fp32, the array dtype is stored.
    Source: ml-explore/mlx mlx/backend/cpu/quantized.cpp `quantize` (0e18bb05).
    """
    if absmax is not None:
        raise BadSpec("mlx_affine takes its scale from each block; it has no static absmax")
    top = 2**bits - 1
    low, high = x.amin(dim, True), x.amax(dim, True)
    from_low = low.abs() > high.abs()
    edge = torch.where(from_low, low, high)
    step = ((high - low) / top).clamp_min(MLX_EPS)
    step = torch.where(from_low, step, -step)
    q0 = (edge / step).detach().round_()
    step = torch.where(q0 != 0, edge / torch.where(q0 != 0, q0, 1.0), step)
    offset = torch.where(q0 != 0, edge, 0.0)
    return Grid(store(step), inverse_of(step), torch.round_, 0, top, store(offset), offset)


def _float8_grid(kind: str) -> Callable[[Tensor, int, int, Storage, Tensor | None], Grid]:
    dtype = FLOAT8[kind]
    largest = torch.finfo(dtype).max

    def rounder(y: Tensor) -> Tensor:  # saturates, as runtimes do; a bare cast gives inf or NaN
        return y.copy_(y.clamp(-largest, largest).to(dtype))

    def grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
        step = store(_absmax_of(x, dim, absmax) / largest)
        return Grid(step, inverse_of(step), rounder, -largest, largest)

    return grid


def float8_spacing(scaled: Tensor, kind: str) -> Tensor:
    """Distance between the two float8 numbers around each of `scaled`, that of the outermost ones beyond them."""
    info = torch.finfo(FLOAT8[kind])
    size = scaled.abs().clamp(info.smallest_normal, info.max)
    exponent = torch.frexp(size).exponent - 1  # floor(log2(size)): frexp gives a fraction from 1/2 to 1
    return torch.ldexp(torch.full_like(size, info.eps), exponent)


GRIDS: dict[Levels, Callable[[Tensor, int, int, Storage, Tensor | None], Grid]] = {
    "absmax": absmax_grid,
    "affine": affine_grid,
    "ggml_absmax": ggml_absmax_grid,
    "ggml_signed": ggml_signed_grid,
    "mlx_affine": mlx_affine_grid,
    "e4m3": _float8_grid("e4m3"),
    "e5m2": _float8_grid("e5m2"),
}


def code_span(spec: QuantizerSpec) -> float:
    """absmax / step of a static scale: the largest code of `spec`'s levels (vLLM's k_scale is a step)."""
    if spec.levels in FLOAT8:
        return float(torch.finfo(FLOAT8[spec.levels]).max)
    return (2**spec.bits - 1) / 2 if spec.levels == "affine" else 2 ** (spec.bits - 1) - 1
