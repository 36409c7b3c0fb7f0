"""Interpolation pressure: how fast a position interpolation moves each RoPE pair's phase as its scale grows.

IP_i(s) = E_D |d phi_i(D; s) / d ln s| = |d omega_i / d ln s| * E[D], rad per e-fold of scale. Every method's
slope d omega_i / d ln s is a closed form, in its file of interpolations/methods. The scaled
frequencies omega_i(s) come in from outside (transformers' own initialisers), so that what is differentiated
is what runs. A pair under high pressure is one whose phase the interpolation, not the text, decides.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.interpolations.base import ROUNDING, Interpolation
from qroar_core.interpolations.registry import interpolation_methods
from qroar_core.interpolations.tied_frequencies import tied_slope
from qroar_core.specs import DistanceLaw


def frequency_slope(at: Interpolation) -> Tensor:
    """d omega_i / d ln s, rad/token per e-fold of scale; <= 0, float64, (rotary_dim // 2,).

    Of tied pairs it is their group's: omega_group times the mean of slope_j / omega_j over its pairs.
    """
    slope = interpolation_methods()[at.spec.method].slope
    if at.untied is None:
        return slope(at)
    alone = replace(at, spec=replace(at.spec, tie=()), scaled=at.untied, untied=None)
    return tied_slope(slope(alone), at.untied, at.spec.tie)


def attention_factor_slope(at: Interpolation) -> float:
    """d ln a / d ln s of the factor a(s) on cos and sin; a logit's rotated part goes as a^2.

    Holds for each method's own a(s) only: a checkpoint that fixes its attention factor has slope 0, which the caller
    must know.
    """
    return interpolation_methods()[at.spec.method].attention_factor_slope(at)


def mean_distance(length: int, law: DistanceLaw, window: int | None = None) -> float:
    """E[D] in tokens between a query and the keys it sees in a context of `length` tokens.

    causal: every visible (m, n <= m) equally likely, P(D) ~ L - D for D = 0..W-1, so E[D] = (L - 1)/3 for W = L.
    uniform: P(D) = 1/W, so E[D] = (W - 1)/2.

    Args:
        length: L, tokens. law: how (m, n) are drawn.
        window: newest keys a query sees, itself included, tokens; None or more than L: all, W = L.
    """
    if length < 1 or (window is not None and window < 1):
        raise ValueError(f"length and window must be >= 1 token, got {length}, {window}")
    if law not in ("causal", "uniform"):
        raise BadSpec(f"unknown distance law {law!r}", do="choose causal or uniform")
    w = length if window is None else min(window, length)
    if law == "uniform":
        return (w - 1) / 2
    # sums over D < W of D (L - D) and of L - D, both divided by W
    weighted = (w - 1) * (3 * length - 2 * w + 1) / 6
    return weighted / (length - (w - 1) / 2)


def interpolation_pressure(slope: Tensor, distance: float) -> Tensor:
    """IP_i = |d omega_i / d ln s| E[D], rad per e-fold of scale; shape of slope."""
    return slope.abs() * distance


def phase_displacement(native: Tensor, scaled: Tensor, distance: float) -> Tensor:
    """E_D |phi_i(D; s) - phi_i(D; 1)|, rad, exact: both phases are linear in D.

    = |omega_i(s) - omega_i| E[D]; shape of the frequencies, float64. 0 where they differ by float32 rounding alone.
    """
    moved = (scaled.double() - native.double()).abs()
    return moved.where(moved > ROUNDING * native.double(), 0.0) * distance
