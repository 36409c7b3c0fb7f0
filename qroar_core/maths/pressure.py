"""Interpolation pressure: how fast a position interpolation moves each RoPE pair's phase as its scale grows.

IP_i(s) = E_D |d phi_i(D; s) / d ln s| = |d omega_i / d ln s| * E[D], rad per e-fold of scale. Every method's
slope d omega_i / d ln s is a closed form, one function each, found by name in FREQUENCY_SLOPES. The scaled
frequencies omega_i(s) come in from outside (transformers' own initialisers), so that what is differentiated
is what runs. A pair under high pressure is one whose phase the interpolation, not the text, decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.specs import DistanceLaw, RopeSpec

# transformers' guard against a ramp of zero width
RAMP_SINGULARITY = 0.001
# YaRN's attention factor is 0.1 ln s + 1: arXiv 2309.00071, eq. 22
YARN_TEMPERATURE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Interpolation:
    """One position interpolation at work.

    Args:
        spec: method and factor s.
        native: omega_i before interpolation, rad/token, descending; (rotary_dim // 2,).
        scaled: omega_i(s) as the model runs it; same shape.
        original_context: L0, tokens; `spec.original_context` overrides it.
        length: L, tokens: what dynamic NTK and LongRoPE choose their frequencies by.
    Raises:
        ValueError: shapes differ, or a native frequency is not positive.
    """

    spec: RopeSpec
    native: Tensor
    scaled: Tensor
    original_context: int
    length: int

    def __post_init__(self) -> None:
        if self.native.ndim != 1 or self.native.shape != self.scaled.shape:
            raise ValueError(f"frequencies must be 1-D alike: {tuple(self.native.shape)}, {tuple(self.scaled.shape)}")
        if not bool((self.native > 0).all()):
            raise ValueError("native frequencies must be positive")

    @property
    def context(self) -> int:
        """L0 in force, tokens."""
        return self.spec.original_context or self.original_context


def _default(at: Interpolation) -> Tensor:
    return torch.zeros_like(at.native, dtype=torch.float64)


def _linear(at: Interpolation) -> Tensor:
    """omega / s  ->  -omega / s. Source: arXiv 2306.15595."""
    return -at.native.double() / at.spec.factor


def _ntk_exponent(at: Interpolation) -> Tensor:
    pairs = at.native.numel()
    if pairs < 2:
        raise BadSpec(f"{at.spec.method} needs at least 2 RoPE pairs, got {pairs}")
    return torch.arange(pairs, dtype=torch.float64) / (pairs - 1)  # 2i / (r - 2)


def _ntk(at: Interpolation) -> Tensor:
    """omega s^(-2i/(r-2))  ->  -(2i/(r-2)) omega(s). Source: bloc97 2023, arXiv 2309.00071 section 3.1."""
    return -_ntk_exponent(at) * at.scaled.double()


def _dynamic(at: Interpolation) -> Tensor:
    """omega g^(-2i/(r-2)), g = s L/L0 - (s - 1)  ->  -(2i/(r-2)) omega(s) s (L/L0 - 1) / g; 0 for L <= L0."""
    s, excess = at.spec.factor, max(at.length / at.context, 1.0) - 1
    return -_ntk_exponent(at) * at.scaled.double() * (s * excess / (s * excess + 1))


def yarn_ramp(native: Tensor, context: int, beta_fast: float = 32.0, beta_slow: float = 1.0) -> Tensor:
    """gamma_i: 1 where YaRN leaves a pair alone, 0 where it interpolates fully, linear in i between.

    The borders are the pair indices that make beta_fast and beta_slow turns per window, rounded outward.

    Args:
        native: omega_i = theta^(-2i/r), rad/token; (rotary_dim // 2,), at least 2.
        context: L0, tokens.
    Returns:
        float64, (rotary_dim // 2,).
    Source: arXiv 2309.00071 section 3.2, as transformers 5.23 computes it (`truncate` true).
    """
    pairs = native.numel()
    if pairs < 2:
        raise BadSpec(f"yarn needs at least 2 RoPE pairs, got {pairs}")
    step = math.log(float(native[0]) / float(native[-1])) / (pairs - 1)  # 2 ln(theta) / r

    def index_of(turns: float) -> float:
        return math.log(float(native[0]) * context / (2 * math.pi * turns)) / step

    low = max(math.floor(index_of(beta_fast)), 0)
    high = float(min(math.ceil(index_of(beta_slow)), 2 * pairs - 1))
    if low == high:
        high += RAMP_SINGULARITY
    return 1 - ((torch.arange(pairs, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)


def _yarn(at: Interpolation) -> Tensor:
    """omega (gamma + (1 - gamma)/s)  ->  -(1 - gamma) omega / s."""
    ramp = yarn_ramp(at.native, at.context, at.spec.beta_fast, at.spec.beta_slow)
    return -(1 - ramp) * at.native.double() / at.spec.factor


def longrope_scale(at: Interpolation) -> float:
    """The factor s at which LongRoPE's list holds: as asked, or L/L0 when none was asked for."""
    return at.spec.factor if at.spec.factor > 1 else max(at.length / at.context, 1.0)


def _longrope(at: Interpolation) -> Tensor:
    """omega / lambda_i with lambda_i searched at one s only  ->  -(ln lambda_i / ln s) omega(s).

    Between 1 and s the path is taken as geometric, lambda_i(s') = lambda_i^(ln s' / ln s): the one that
    starts at no interpolation, meets the list, and is linear interpolation when all lambda_i = s. Up to
    L0 the short list holds whatever s is: slope 0. Source of the lists: arXiv 2402.13753.
    """
    if at.length <= at.context:
        return _default(at)
    ln_lambda = (at.native.double() / at.scaled.double()).log()
    return -ln_lambda / math.log(longrope_scale(at)) * at.scaled.double()


def _llama3(at: Interpolation) -> Tensor:
    """omega (m + (1 - m)/s)  ->  -(1 - m) omega / s.

    m = clamp((turns - low) / (high - low), 0, 1), turns = L0 omega / 2 pi: 1 above high_freq_factor
    turns per window, 0 below low_freq_factor. Source: Llama 3.1's scaling as in transformers 5.23.
    """
    low, high = at.spec.low_freq_factor, at.spec.high_freq_factor
    turns = at.native.double() * at.context / (2 * math.pi)
    return -(1 - ((turns - low) / (high - low)).clamp(0, 1)) * at.native.double() / at.spec.factor


FREQUENCY_SLOPES: dict[str, Callable[[Interpolation], Tensor]] = {
    "default": _default,
    "linear": _linear,
    "ntk": _ntk,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}


def frequency_slope(at: Interpolation) -> Tensor:
    """d omega_i / d ln s, rad/token per e-fold of scale; <= 0, float64, (rotary_dim // 2,).

    Raises:
        BadSpec: a method without a closed form here.
    """
    if at.spec.method not in FREQUENCY_SLOPES:
        raise BadSpec(f"no interpolation pressure for {at.spec.method!r}", do=f"known: {', '.join(FREQUENCY_SLOPES)}")
    return FREQUENCY_SLOPES[at.spec.method](at)


def attention_factor_slope(at: Interpolation) -> float:
    """d ln a / d ln s of the factor a(s) on cos and sin; a logit's rotated part goes as a^2.

    YaRN a = 0.1 ln s + 1; LongRoPE a = sqrt(1 + ln s / ln L0); 1 elsewhere. Holds for these defaults only:
    a checkpoint that fixes its own attention factor has slope 0, which the caller must know.
    """
    if at.spec.method == "yarn":
        return YARN_TEMPERATURE / (1 + YARN_TEMPERATURE * math.log(at.spec.factor))
    if at.spec.method == "longrope":
        s = at.spec.factor
        return 1 / (2 * math.log(at.context * s)) if s > 1 else 0.0
    return 0.0


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

    = |omega_i(s) - omega_i| E[D]; shape of the frequencies, float64.
    """
    return (scaled.double() - native.double()).abs() * distance
