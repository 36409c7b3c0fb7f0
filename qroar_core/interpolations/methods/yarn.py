"""YaRN: fast pairs left alone, slow ones interpolated, a ramp between, and a factor on cos and sin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadSpec
from qroar_core.interpolations.base import (
    ATTENTION,
    Formula,
    Interpolation,
    Method,
    Option,
    Range,
    RopeParameterInputs,
    has_fixed_attention_factor,
)
from qroar_core.interpolations.spec import RopeSpec

if TYPE_CHECKING:
    from torch import Tensor

RAMP_SINGULARITY = 0.001  # transformers' guard against a ramp of zero width
TEMPERATURE = 0.1  # YaRN's attention factor is 0.1 ln s + 1: arXiv 2309.00071, eq. 22


def ramp(
    native: Tensor, context: int, beta_fast: float = 32.0, beta_slow: float = 1.0, truncate: bool = True
) -> Tensor:
    """gamma_i: 1 where YaRN leaves a pair alone, 0 where it interpolates fully, linear in i between.

    The borders are the pair indices that make beta_fast and beta_slow turns per window, rounded outward if `truncate`.

    Args:
        native: omega_i = theta^(-2i/r), rad/token; (rotary_dim // 2,), at least 2.
        context: L0, tokens.
    Returns:
        float64, (rotary_dim // 2,).
    Source: arXiv 2309.00071 section 3.2, as transformers 5.23 computes it.
    """
    import torch

    pairs = native.numel()
    if pairs < 2:
        raise BadSpec(f"yarn needs at least 2 RoPE pairs, got {pairs}")
    step = math.log(float(native[0]) / float(native[-1])) / (pairs - 1)  # 2 ln(theta) / r

    def index_of(turns: float) -> float:
        return math.log(float(native[0]) * context / (2 * math.pi * turns)) / step

    low, high = index_of(beta_fast), index_of(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0.0), float(min(high, 2 * pairs - 1))
    if low == high:
        high += RAMP_SINGULARITY
    return 1 - ((torch.arange(pairs, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)


def _parameters(asked: RopeParameterInputs) -> dict[str, Any]:
    betas = {"beta_fast": asked.spec.beta_fast, "beta_slow": asked.spec.beta_slow}
    return asked.block("yarn", original_max_position_embeddings=int(asked.context), **betas)


def _slope(at: Interpolation) -> Tensor:
    """omega (gamma + (1 - gamma)/s)  ->  -(1 - gamma) omega / s."""
    truncate = bool(at.kept.get("truncate", True))
    alone = ramp(at.native, at.context, at.spec.beta_fast, at.spec.beta_slow, truncate)
    return -(1 - alone) * at.native.double() / at.spec.factor


def _attention_factor_slope(at: Interpolation) -> float:
    """Of a(s) = 0.1 ln s + 1; a setting or a checkpoint may fix it.

    A checkpoint may also have DeepSeek's quotient of two such factors.
    The softmax scale that DeepSeek derives from its factor is held.
    """
    if has_fixed_attention_factor(at):
        return 0.0
    above, below = at.kept.get("mscale"), at.kept.get("mscale_all_dim")
    if not (above and below):
        return _log_slope(at.spec.factor, 1.0)
    return _log_slope(at.spec.factor, float(above)) - _log_slope(at.spec.factor, float(below))


def _log_slope(factor: float, mscale: float) -> float:
    """d ln / d ln s of 0.1 m ln s + 1."""
    return TEMPERATURE * mscale / (1 + TEMPERATURE * mscale * math.log(factor))


def _own_options(block: Mapping[str, Any]) -> dict[str, Any]:
    """Borders of 0 or none are transformers' own."""
    return {name: float(block[name]) for name in ("beta_fast", "beta_slow", "attention_factor") if block.get(name)}


def _llama_cpp(spec: RopeSpec, native: int) -> tuple[list[str], str]:
    words = ["--rope-scaling", "yarn", "--rope-scale", f"{spec.factor:g}", "--yarn-orig-ctx", str(native)]
    if (spec.beta_fast, spec.beta_slow) != (RopeSpec().beta_fast, RopeSpec().beta_slow):
        words += ["--yarn-beta-fast", f"{spec.beta_fast:g}", "--yarn-beta-slow", f"{spec.beta_slow:g}"]
    return words, "Without --yarn-orig-ctx it would take the extended window for the trained one."


def _searched(s: float, reach: float) -> tuple[Range, ...]:
    return (Range("beta_fast", 6.0, 256.0, unit="turns"), Range("beta_slow", 0.0625, 4.0, unit="turns"), ATTENTION)


METHOD = Method(
    "YaRN",
    40,
    "arXiv 2309.00071 section 3.2",
    _parameters,
    _slope,
    attention_factor_slope=_attention_factor_slope,
    has_attention_factor=True,
    reads_window=True,
    options=(
        Option("beta_fast", "Pairs with more turns per native window stay as they are."),
        Option("beta_slow", "Pairs with fewer turns are interpolated fully."),
    ),
    required_keys=("factor",),
    own_options=_own_options,
    llama_cpp=_llama_cpp,
    searched=_searched,
    formula=Formula("omega_i (gamma_i + (1 - gamma_i)/s)", "-(1 - gamma_i) omega_i / s", "0.1 ln s + 1"),
)
