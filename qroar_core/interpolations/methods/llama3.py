"""Llama 3.1's scaling: pairs left alone, interpolated or between, by their turns per native window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qroar_core.interpolations.base import Formula, Interpolation, Method, Option, Range, RopeParameterInputs
from qroar_core.interpolations.spec import RopeSpec

if TYPE_CHECKING:
    from torch import Tensor


def _parameters(asked: RopeParameterInputs) -> dict[str, Any]:
    borders = {"low_freq_factor": asked.spec.low_freq_factor, "high_freq_factor": asked.spec.high_freq_factor}
    return asked.block("llama3", original_max_position_embeddings=int(asked.context), **borders)


def _slope(at: Interpolation) -> Tensor:
    """omega (m + (1 - m)/s)  ->  -(1 - m) omega / s.

    m = clamp((turns - low) / (high - low), 0, 1), turns = L0 omega / 2 pi: 1 above high_freq_factor
    turns per window, 0 below low_freq_factor.
    """
    low, high = at.spec.low_freq_factor, at.spec.high_freq_factor
    turns = at.native.double() * at.context / (2 * math.pi)
    return -(1 - ((turns - low) / (high - low)).clamp(0, 1)) * at.native.double() / at.spec.factor


def _own_options(block: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(block[name]) for name in ("low_freq_factor", "high_freq_factor")}


def _llama_cpp(spec: RopeSpec, native: int) -> tuple[list[str], str]:
    return [], "The converter writes llama3's frequency factors into the GGUF of a Llama model."


def _searched(s: float, reach: float) -> tuple[Range, ...]:
    return (Range("low_freq_factor", 0.25, 3.0, unit="turns"), Range("high_freq_factor", 3.2, 32.0, unit="turns"))


METHOD = Method(
    "llama3",
    60,
    "Llama 3.1, as in transformers 5.23",
    _parameters,
    _slope,
    reads_window=True,
    options=(
        Option("low_freq_factor", "Pairs with fewer turns per native window are interpolated fully."),
        Option("high_freq_factor", "Pairs with more turns stay as they are."),
    ),
    required_keys=("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    own_options=_own_options,
    llama_cpp=_llama_cpp,
    searched=_searched,
    formula=Formula("omega_i (m_i + (1 - m_i)/s)", "-(1 - m_i) omega_i / s"),
)
