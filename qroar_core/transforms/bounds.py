"""How far a band's scale may go, from the diagnostics (docs/method.md section 4). Every bound is editable.

A band under more interpolation pressure gets a narrower window; a band whose tails inflate with
length may be shrunk further: that is g > 1 for k in `symmetric`, g < 1 for both in `shared`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.specs import Mode


def log2_bounds(
    pressure: Tensor,
    tail_inflation: Tensor,
    mode: Mode,
    *,
    max_log2_scale: float,
    pressure_weight: float,
    tau: float,
    median: float | None = None,
) -> Tensor:
    """[low, high] of log2 g per layer and band.

    kappa_b = max_log2_scale / (1 + pressure_weight * IP_b / median IP); the shrinking side is widened by
    tau * log2(max(TIR_b, 1)).

    Args:
        pressure: interpolation pressure per band, >= 0; (bands,), or (layers, bands) where layers differ. All zero
            without an interpolation.
        tail_inflation: TIR of the inflated tensor (k; in `shared` the larger of q and k); (layers, bands), > 0.
        max_log2_scale: octaves allowed to a band without pressure.
        median: median IP to hold the bands against, rad per e-fold; None: that of `pressure`.
    Returns:
        (layers, bands, 2), float64, low <= 0 <= high: 1 is always allowed.
    """
    pressure = pressure.double()
    median = float(pressure.quantile(0.5)) if median is None else median
    relative = pressure / median if median > 0 else torch.zeros_like(pressure)
    kappa = (max_log2_scale / (1 + pressure_weight * relative)).expand_as(tail_inflation)
    wider = kappa + tau * tail_inflation.double().clamp_min(1).log2()
    low, high = (-kappa, wider) if mode == "symmetric" else (-wider, kappa)
    return torch.stack((low, high), dim=-1)
