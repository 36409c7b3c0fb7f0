"""Fake quantization of linear weights, and when a row scale can act on it at all.

Weight-only quantizers take their scale from the weights that share it. Where those lie in one output
row, multiplying the row by g > 0 multiplies the scale by g and moves no weight to another level:
Q(g w) = g Q(w). Band scales multiply rows of W_Q and W_K, so under such a quantizer `symmetric`
rescaling is an exact no-op (DESIGN section 4). `row_scale_equivariant` is that verdict.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.levels import inverse_of
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
            where="--group-size",
            do=f"choose a divisor of {w.shape[1]}, or --weight-scale channel",
        )
    with torch.no_grad():
        work = w.detach() if w.dtype == torch.float64 else w.detach().float()
        if spec.scale == "tensor":
            sets = work.reshape(1, -1)  # (1, out * in)
        elif spec.scale == "channel":
            sets = work  # (out, in)
        else:
            sets = work.reshape(-1, spec.group_size)  # (out * in/group_size, group_size)
        rounded = _symmetric(sets, spec) if spec.symmetric else _affine(sets, spec)
        return rounded.reshape(w.shape).to(w.dtype)


def _symmetric(sets: Tensor, spec: WeightQuantSpec) -> Tensor:
    qmax = 2 ** (spec.bits - 1) - 1
    low = -qmax - 1 if spec.full_range else -qmax
    step = sets.abs().amax(1, keepdim=True) / (qmax + 0.5 if spec.full_range else qmax)
    inverse = inverse_of(step)
    if spec.full_range:
        inverse *= 1 + TIE
    return (sets * inverse).round_().clamp_(low, qmax).mul_(step)


def _affine(sets: Tensor, spec: WeightQuantSpec) -> Tensor:
    top = 2**spec.bits - 1
    low, high = sets.amin(1, keepdim=True), sets.amax(1, keepdim=True)
    step = (high - low) / top
    return torch.sub(sets, low).mul_(inverse_of(step)).round_().clamp_(0, top).mul_(step).add_(low)


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
