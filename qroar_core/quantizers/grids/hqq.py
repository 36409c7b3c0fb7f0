"""HQQ: minimum to maximum, the zero point moved until half-quadratic iterations stop lowering the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qroar_core.quantizers.grid import Grid, LevelSet, Storage, symmetric_code, to_nearest

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS, BETA, NORM = 20, 10.0, 0.7  # of optimize_weights_proximal's defaults: iterations, weight, the p of its norm
NARROW, STEEPEST = 1e-4, 2e4  # a range that counts as none, and the largest inverse step


def _grid(x: Tensor, dim: int, bits: int, store: Storage, absmax: Tensor | None) -> Grid:
    """x^ = (q - z) / s with s = (2^bits - 1) / (max - min), z from -min s on, codes round(x s + z).

    A round takes what a prior of p-norm 0.7 calls outliers off the error and centres z on the rest. All sets that are
    given stop together, as soon as their mean error is no longer lower, as in HQQ.
    Source: mobiusml/hqq hqq/core/quantize.py Quantizer.quantize, hqq/core/optimize.py
    optimize_weights_proximal_legacy (0.2.8.post1).
    """
    import torch

    top = 2**bits - 1
    low, high = x.amin(dim, True), x.amax(dim, True)
    span = high - low
    inverse = torch.where(span <= NARROW, 1.0, top / span.clamp_min(NARROW)).clamp_max(STEEPEST)
    first = -low * inverse
    with torch.no_grad():
        zero = _settled(x, dim, inverse, first.clone(), top)
    zero = first + (zero - first.detach())  # the gradient is that of min..max
    step = store(1 / inverse)
    return Grid(step, inverse.detach(), to_nearest, 0, top, -store(zero) * step, -zero / inverse)


def _settled(x: Tensor, dim: int, inverse: Tensor, zero: Tensor, top: int) -> Tensor:
    """The zero points after the iterations."""
    best = float("inf")
    for _ in range(ROUNDS):
        codes = (x * inverse + zero).round_().clamp_(0, top)
        error = x - (codes - zero) / inverse
        size = error.abs()
        outlier = (size - size.pow(NORM - 1) / BETA).clamp_min_(0.0).mul_(error.sign())
        zero = (codes - (x - outlier) * inverse).mean(dim, keepdim=True)
        if not (mean := float(size.mean())) < best:
            break
        best = mean
    return zero


LEVELS = LevelSet("HQQ", 49, _grid, symmetric_code, from_block=True, stored=2)
