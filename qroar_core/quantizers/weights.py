"""Fake quantization of linear weights, and when a row scale can act on it at all.

Weight-only quantizers take their scale from the weights that share it. Where those lie in one output
row, multiplying the row by g > 0 multiplies the scale by g and moves no weight to another level:
Q(g w) = g Q(w). Band scales multiply rows of W_Q and W_K, so under such a quantizer `symmetric`
rescaling is an exact no-op (docs/method.md section 4). `row_scale_equivariant` is that verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.quantizers.grid import inverse_of
from qroar_core.specs import WeightQuantSpec

TIE = 2.0**-20  # relative; above float32 rounding noise, far below any step that matters


def fake_quantize_weight(w: Tensor, spec: WeightQuantSpec) -> Tensor:
    """Round a weight matrix to nearest.

    Symmetric: w^ = step * clamp(round(w / step), low, qmax); step = absmax/qmax, low = -qmax, or with
    full_range step = absmax/(qmax + 1/2), low = -qmax - 1; qmax = 2^(bits-1) - 1.
    Affine: w^ = min + step * round((w - min)/step), step = (max - min)/(2^bits - 1).
    A full-range set's negative extreme lies on the tie -(qmax + 1/2); it always takes the lowest level,
    by computing codes as if the step were 2^-20 smaller, where checkpoints leave it to rounding noise.
    One step per matrix, per output row, or per `group_size` inputs of a row.

    Args:
        w: shape (out_features, in_features), floating.
        spec: the quantizer.
    Returns:
        Same shape and dtype; float32 arithmetic, or float64 where w is. Rows of zeros stay zero.
    Raises:
        BadSpec: w is no matrix, or group_size does not divide in_features.
    Source: round to nearest as in GPTQ (2210.17323) section 2; full_range: vllm-project/compressed-tensors
        quantization/utils/helpers.py `calculate_qparams`.
    """
    if w.ndim != 2:
        raise BadSpec(f"a linear weight is (out_features, in_features), got shape {tuple(w.shape)}")
    if spec.scale == "group" and w.shape[1] % spec.group_size:
        raise BadSpec(
            f"group size {spec.group_size} does not divide in_features {w.shape[1]}",
            where="quantized weights",
            do=f"choose a group size that divides {w.shape[1]}, or one scale per row",
        )
    with torch.no_grad():
        work = w.detach() if w.dtype == torch.float64 else w.detach().float()
        if spec.scale == "tensor":
            sets = work.reshape(1, -1)  # (1, out * in)
        elif spec.scale == "channel":
            sets = work  # (out, in)
        else:
            sets = work.reshape(-1, spec.group_size)  # (out * in/group_size, group_size)
        return grid_of(sets, spec).round(sets).reshape(w.shape).to(w.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class WeightGrid:
    """The levels of each set: base + step * code, code in first .. last; step, its inverse and base are (sets, 1)."""

    step: Tensor
    inverse: Tensor
    base: Tensor | None  # None: 0
    first: int
    last: int

    def round(self, x: Tensor) -> Tensor:
        """x (sets, n) to the nearest levels of its sets; a new tensor."""
        codes = x * self.inverse if self.base is None else torch.sub(x, self.base).mul_(self.inverse)
        levels = codes.round_().clamp_(self.first, self.last).mul_(self.step)
        return levels if self.base is None else levels.add_(self.base)


def grid_of(sets: Tensor, spec: WeightQuantSpec) -> WeightGrid:
    """The grid of each row of `sets`, (sets, n), from its own range."""
    if not spec.symmetric:
        top = 2**spec.bits - 1
        low, high = sets.amin(1, keepdim=True), sets.amax(1, keepdim=True)
        step = (high - low) / top
        return WeightGrid(step, inverse_of(step), low, 0, top)
    qmax = 2 ** (spec.bits - 1) - 1
    step = sets.abs().amax(1, keepdim=True) / (qmax + 0.5 if spec.full_range else qmax)
    inverse = inverse_of(step)
    if spec.full_range:
        return WeightGrid(step, inverse * (1 + TIE), None, -qmax - 1, qmax)
    return WeightGrid(step, inverse, None, -qmax, qmax)


def row_scale_equivariant(spec: WeightQuantSpec) -> bool:
    """Whether Q(g w) = g Q(w) for every output row and every g > 0.

    True per output channel and per group of a row's inputs: absmax, minimum and maximum of g w are g
    times those of w, so the codes are the same and the levels g times as large. Exact in real
    arithmetic, and bit for bit when g is a power of two. False for one scale per matrix: a row made
    smaller keeps the matrix's step and loses bits, a larger one gains them, and may take the others'.

    Returns:
        False exactly where band scales on W_Q and W_K can change the weight error.
    """
    return spec.scale != "tensor"
