"""The null of the cosine: what an error of a row's own size shows when its direction is random.

With rho = |e| / |x| and t the part of e's direction along x, the cosine of x and x + e is

    c(t) = (1 + rho t) / sqrt(1 + 2 rho t + rho^2),

and for a direction drawn evenly in d dimensions t has the density (1 - t^2)^((d - 3) / 2), up to its norm. Mean and
variance are integrals over t = sin u by the trapezoidal rule; nothing is drawn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

POINTS = 257  # of the rule
REACH = 9  # standard deviations of t on either side, 1 / sqrt(d) each: beyond, the density is below 1e-17


def random_direction_cosine(rho: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the cosine of x and x + e, e at a random direction in `dim` >= 2 dimensions.

    Args:
        rho: |e| / |x|, float64 of any shape; infinite where x is zero.
    """
    half = min(math.pi / 2, REACH / math.sqrt(dim))
    u = torch.linspace(-half, half, POINTS, dtype=torch.float64)
    weight = u.cos() ** (dim - 2)
    weight[[0, -1]] /= 2
    weight = weight / weight.sum()
    t = u.sin()
    size = rho[..., None]
    # over rho where it is above 1, so that an infinite one is no exception
    small, large = torch.minimum(size, torch.ones_like(size)), torch.maximum(size, torch.ones_like(size))
    one, other = 1 / large, small
    cosine = (one + other * t) / (one.square() + 2 * one * other * t + other.square()).clamp_min(1e-300).sqrt()
    mean = (cosine * weight).sum(-1)
    return mean, ((cosine - mean[..., None]).square() * weight).sum(-1)
