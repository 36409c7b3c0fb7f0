"""Value maps from statistics alone: where a search of them begins (docs/method.md section 4).

An absmax quantizer that a whole token and head shares makes errors in proportion to the token's largest channel. A map
that spreads each token evenly over the channels makes the largest one small; a map that also stretches V where W_O
reads it strongly, and shrinks it where W_O hardly looks, moves the error to where it costs nothing.

With S the second moment of v, G the metric of its error (W_O^T W_O) and evenly spread tokens, the error of a map is in
proportion to tr(M S M^T) tr(M^-T G M^-1). Every M with M^T M = A of

    A = S^-1/2 (S^1/2 G S^1/2)^1/2 S^-1/2,

the geometric mean of G and S^-1, reaches its least, (tr (S^1/2 G S^1/2)^1/2)^2, by the inequality of Cauchy and
Schwarz; orthonormal maps all give tr S tr G.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qroar_core.quantizers.hadamard import hadamard_matrix

FLOOR = 1e-2  # of the mean eigenvalue, added to every one: a channel that calibration text never uses stays in reach


def spread_matrix(size: int) -> Tensor:
    """An orthonormal matrix whose entries are alike in size: Hadamard's, or Hartley's where none is known.

    Hartley's, cos + sin of 2 pi i j / size over sqrt(size), has entries up to sqrt(2 / size) for any size.

    Returns:
        (size, size), float64.
    """
    if size & (size - 1) == 0:
        return hadamard_matrix(size, torch.float64, torch.device("cpu"))
    step = torch.arange(size, dtype=torch.float64)
    angle = 2 * math.pi * torch.outer(step, step) / size
    return (angle.cos() + angle.sin()) / math.sqrt(size)


def value_starts(moments: Tensor) -> dict[str, Tensor]:
    """Candidates for every head, identity first.

    Both second moments count alike: by how tokens were read alone, few tokens would decide.

    Args:
        moments: as `maths.value_error.ValueRows.moments` has them, (3, ..., value_dim, value_dim), float64.
    Returns:
        By name, each (..., value_dim, value_dim), float64.
    """
    all_tokens, as_read, metric = moments
    second = _of_trace_one(all_tokens) + _of_trace_one(as_read)
    size = second.shape[-1]
    spread = spread_matrix(size).to(second.device)
    one = torch.eye(size).to(second)
    stretch = balancing(second, metric)
    return {
        "identity": one.expand_as(second).clone(),
        "spread": spread.expand_as(second).clone(),
        "principal axes, spread": spread @ torch.linalg.eigh(second).eigenvectors.mT,
        "balanced, spread": spread @ torch.linalg.eigh(stretch @ second @ stretch).eigenvectors.mT @ stretch,
    }


def balancing(second: Tensor, metric: Tensor) -> Tensor:
    """A^1/2 of the module's formula, symmetric, of determinant 1 (a common factor of a map changes nothing)."""
    s, g = _floored(second), _floored(metric)
    root, back = _power(s, 0.5), _power(s, -0.5)
    half = _power(back @ _power(root @ g @ root, 0.5) @ back, 0.5)
    return half / (torch.linalg.slogdet(half).logabsdet / half.shape[-1]).exp()[..., None, None]


def _of_trace_one(matrix: Tensor) -> Tensor:
    """As it is where its trace is 0."""
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return matrix / torch.where(trace > 0, trace, 1.0)


def _floored(matrix: Tensor) -> Tensor:
    """With FLOOR of its mean eigenvalue on the diagonal; a head without any is 1."""
    size = matrix.shape[-1]
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    one = torch.eye(size).to(matrix)
    return torch.where(mean > 0, matrix / mean.clamp_min(1e-300) + FLOOR * one, one)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(1e-12)[..., None, :] ** exponent @ vectors.mT
