"""Linear interpolation: every frequency slowed alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qroar_core.interpolations.base import Formula, Interpolation, Method, Range, RopeParameterInputs, stretch
from qroar_core.interpolations.spec import RopeSpec

if TYPE_CHECKING:
    from torch import Tensor


def _parameters(asked: RopeParameterInputs) -> dict[str, Any]:
    return asked.block("linear")


def _slope(at: Interpolation) -> Tensor:
    """omega / s  ->  -omega / s."""
    return -at.native.double() / at.spec.factor


def _llama_cpp(spec: RopeSpec, native: int) -> tuple[list[str], str]:
    return ["--rope-scaling", "linear", "--rope-scale", f"{spec.factor:g}"], ""


def _searched(s: float, reach: float) -> tuple[Range, ...]:
    return (stretch(s, reach),)


METHOD = Method(
    "linear",
    10,
    "arXiv 2306.15595",
    _parameters,
    _slope,
    llama_cpp=_llama_cpp,
    searched=_searched,
    required_keys=("factor",),
    formula=Formula("omega_i / s", "-omega_i(s)"),
)
