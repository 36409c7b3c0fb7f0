"""GPTQ: weights rounded column by column, the error of each pushed onto the columns not yet rounded.

For one row w of a linear layer the output error on calibration inputs X is (w^ - w) H (w^ - w)^T with
H = mean x x^T. Rounding column j leaves an error that the remaining columns F can cancel in part:
    w_F <- w_F - (w_j - Q(w_j)) / [H_F^-1]_jj * (H_F^-1)_jF .
All the inverses that the columns need in turn are rows of one matrix, the upper Cholesky factor of H^-1.
Columns keep their order. A group's step comes from its weights as they are once every earlier column is rounded.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.models.patch import quantized_parameters
from qroar_core.quantizers.weights import fake_quantize_weight, grid_of
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.specs import WeightQuantSpec

DAMP = 0.01  # of H's mean diagonal, added to it (the paper's section 3.3, "Step 3")
BLOCK = 128  # columns whose updates of later columns are made together (its "Step 2"); changes no number


def gptq(w: Tensor, hessian: Tensor, spec: WeightQuantSpec, damp: float = DAMP) -> Tensor:
    """Round w on the grid of `spec` so that its outputs on the calibration inputs move little.

    Args:
        w: (out_features, in_features), floating. Linears that read the same inputs may be stacked by rows.
        hessian: mean of x x^T over calibration inputs, (in_features, in_features); any positive factor.
        spec: scale per `channel` or `group`.
        damp: share of the mean diagonal added to it.
    Returns:
        Same shape and dtype. An input that is always 0 gets weight 0, as in the published code.
    Raises:
        BadSpec: one scale for the whole matrix, or a group size that does not divide in_features.
    Source: GPTQ, arXiv 2210.17323, algorithm 1.
    """
    if spec.scale == "tensor":
        raise BadSpec("GPTQ rounds row by row: one scale for a whole matrix does not go with it", where="gptq")
    fake_quantize_weight(w[:1], spec)  # refuses shapes and group sizes that do not go
    work = w.detach().clone() if w.dtype == torch.float64 else w.detach().float()
    h = hessian.to(work.device).double()
    dead = h.diagonal() == 0
    h = h + torch.diag(dead.double())
    work = work.masked_fill(dead, 0.0)
    h.diagonal().add_(damp * h.diagonal().mean())
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True).to(work)
    size = spec.group_size if spec.scale == "group" else BLOCK
    whole = None if spec.scale == "group" else grid_of(work, spec)
    out = torch.empty_like(work)
    for first in range(0, work.shape[1], size):
        here = slice(first, first + size)
        part, rest = work[:, here].clone(), work[:, first + size :]
        grid = grid_of(part, spec) if whole is None else whole
        errors = torch.empty_like(part)
        near, far = factor[here, here], factor[here, first + size :]
        for j in range(part.shape[1]):
            rounded = grid.round(part[:, j : j + 1])  # (out, 1)
            errors[:, j : j + 1] = (part[:, j : j + 1] - rounded) / near[j, j]
            part[:, j + 1 :] -= errors[:, j : j + 1] * near[j, j + 1 :]
            out[:, first + j : first + j + 1] = rounded
        rest -= errors @ far  # a view: later blocks see it
    return out.to(w.dtype)


def prepare(given: RemedyInputs) -> Prepared:
    """Every linear rounded by GPTQ; what no calibration token reaches, and stacked experts, to nearest."""
    nearest = quantized_parameters(given.loaded, given.weights, {})
    new = {name: tensor for name, tensor in nearest.items() if tensor is not None}
    for inputs, own, stacked in given.inputs("GPTQ:"):
        rounded = gptq(stacked, inputs.hessian, given.weights)
        new |= dict(zip(own, rounded.split([len(w) for w in own.values()]), strict=True))
    return Prepared(replace(given.quant, weights=None), new)
