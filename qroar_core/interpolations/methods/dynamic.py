"""Dynamic NTK: the base grows with the context that is read, and is the checkpoint's own up to L0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qroar_core.interpolations.base import Formula, Interpolation, Method, Range, RopeParameterInputs, stretch
from qroar_core.interpolations.methods.ntk import exponents
from qroar_core.interpolations.spec import RopeSpec

if TYPE_CHECKING:
    from torch import Tensor


def _parameters(asked: RopeParameterInputs) -> dict[str, Any]:
    return asked.block("dynamic")


def _slope(at: Interpolation) -> Tensor:
    """omega g^(-2i/(r-2)), g = s L/L0 - (s - 1)  ->  -(2i/(r-2)) omega(s) s (L/L0 - 1) / g; 0 for L <= L0."""
    s, excess = at.spec.factor, max(at.length / at.context, 1.0) - 1
    return -exponents(at) * at.scaled.double() * (s * excess / (s * excess + 1))


def _llama_cpp(spec: RopeSpec, native: int) -> tuple[None, str]:
    return None, "llama.cpp has no dynamic NTK: this interpolation cannot be served there."


def _searched(s: float, reach: float) -> tuple[Range, ...]:
    return (stretch(s, reach),)


METHOD = Method(
    "dynamic NTK",
    30,
    "transformers' dynamic RoPE type; arXiv 2309.00071 section 3.3",
    _parameters,
    _slope,
    reads_window=True,
    required_keys=("factor",),
    llama_cpp=_llama_cpp,
    searched=_searched,
    length_matters=True,
    formula=Formula(
        "omega_i g^(-2i/(r-2)), g = s L/L0 - (s - 1); omega_i for L <= L0", "-(2i/(r-2)) omega_i(s) s (L/L0 - 1) / g"
    ),
)
