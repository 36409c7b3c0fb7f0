"""AWQ: input channels that matter get finer steps, by a scale that is exact in full precision.

    y = W x = (W diag(s)) (x / s),   W^ = Q(W diag(s)) diag(1/s)
A larger s_j makes weights of input j larger against their group's step. s_j = mean|x_j|^alpha, normalised so that
its largest and smallest value multiply to 1; alpha on a grid, by the squared error of the outputs. Linears that read
the same inputs share s, so that what stands before them (a norm, a linear) can take 1/s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.quantizers.weights import fake_quantize_weight
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.specs import WeightQuantSpec

GRID = 20  # values of alpha: 0, 1/20 .. 19/20
FLOOR = 1e-4  # of mean|x|^alpha, before normalising


def awq_scale(mean_abs: Tensor, alpha: float) -> Tensor:
    """s = mean|x|^alpha / sqrt(max * min), from mean_abs (in_features,) >= 0; same shape and dtype.

    Source: AWQ, arXiv 2306.00978, equation 5; mit-han-lab/llm-awq, awq/quantize/auto_scale.py.
    """
    s = mean_abs.pow(alpha).clamp_min(FLOOR)
    return s / (s.max() * s.min()).sqrt()


def awq_search(w: Tensor, mean_abs: Tensor, hessian: Tensor, spec: WeightQuantSpec) -> tuple[Tensor, float]:
    """The s of the least output error, and its alpha; the smaller alpha wins ties. alpha 0 is s = 1.

    The error of the outputs is sum over rows of (w^ - w) H (w^ - w)^T. The published code takes the error behind
    the whole attention or MLP block instead; the paper's equation 4 is this one. Its clipping of weights is left out.

    Args:
        w: weights of all linears that read these inputs, stacked by rows; (rows, in_features).
        mean_abs: mean |x| of each input over calibration tokens, (in_features,).
        hessian: mean of x x^T, (in_features, in_features).
        spec: the quantizer.
    Source: AWQ, arXiv 2306.00978, section 3.2.
    """
    work = w.detach() if w.dtype == torch.float64 else w.detach().float()
    mean_abs, hessian = mean_abs.to(work), hessian.to(work)
    best, least, found = torch.ones_like(mean_abs), float("inf"), 0.0
    for step in range(GRID):
        s = awq_scale(mean_abs, step / GRID)
        off = fake_quantize_weight(work * s, spec) / s - work
        error = float(((off @ hessian) * off).sum())
        if error < least:
            best, least, found = s, error, step / GRID
    return best, found


def prepare(given: RemedyInputs) -> Prepared:
    """Scaled weights, to be rounded to nearest. W_O stays where V has fewer heads: W_V cannot take its 1/s."""
    geo, made = given.loaded.geometry, Prepared(given.quant)
    left = given.outputs() if geo.n_kv_heads != geo.n_heads else set()
    for inputs, own, stacked in given.inputs("AWQ:"):
        if left.isdisjoint(own):
            made.scale_inputs(own, awq_search(stacked, inputs.mean_abs, inputs.hessian, given.weights)[0])
    return made
