"""Regularisation towards 1: a quadratic penalty on log2 g, higher in bands under more interpolation pressure.

A search on little text follows its noise; a band that pressure gives a narrow window should need better reasons to
leave 1. With kappa_b the half-width that the pressure alone gives band b (transforms/bounds), a head pays

    l2_penalty * mean_b (log2 g_b / kappa_b)^2

on top of its relative error: `l2_penalty` is what scales at all their bounds cost, as a share of identity's error.
"""

from __future__ import annotations

from torch import Tensor


def pull(l2_penalty: float, half_width: Tensor) -> Tensor:
    """l2_penalty / (bands * kappa_b^2), of half-widths kappa (..., bands) in log2; same shape."""
    return (l2_penalty / half_width.square() / half_width.shape[-1]).float()


def price(point: Tensor, pull: Tensor) -> Tensor:
    """sum_b pull_b (log2 g_b)^2; (..., bands) -> (...). What comes after the bands, as angles, costs nothing."""
    return (pull * point[..., : pull.shape[-1]].square()).sum(-1)
