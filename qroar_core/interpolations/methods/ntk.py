"""Static NTK-aware scaling: a larger base, so that fast pairs keep their frequency and slow ones are slowed by s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadSpec
from qroar_core.interpolations.base import Formula, Interpolation, Method, Range, RopeParameterInputs, stretch
from qroar_core.interpolations.spec import RopeSpec

if TYPE_CHECKING:
    from torch import Tensor


def ntk_theta(theta: float, rotary_dim: int, factor: float) -> float:
    """theta s^(r/(r-2)): the slowest pair becomes 1/s as fast, the fastest keeps its frequency."""
    return float(theta * factor ** (rotary_dim / (rotary_dim - 2)))


def exponents(at: Interpolation) -> Tensor:
    """2i / (r - 2) of every pair, float64."""
    import torch

    pairs = at.native.numel()
    if pairs < 2:
        raise BadSpec(f"{at.spec.method} needs at least 2 RoPE pairs, got {pairs}")
    return torch.arange(pairs, dtype=torch.float64) / (pairs - 1)


def _parameters(asked: RopeParameterInputs) -> dict[str, Any]:
    """A default RoPE of a larger base: transformers has no type of this name."""
    return {"rope_type": "default", "rope_theta": ntk_theta(asked.theta, asked.rotary_dim, asked.spec.factor)}


def _slope(at: Interpolation) -> Tensor:
    """omega s^(-2i/(r-2))  ->  -(2i/(r-2)) omega(s)."""
    return -exponents(at) * at.scaled.double()


def _llama_cpp(spec: RopeSpec, native: int) -> tuple[list[str], str]:
    return [], "Static NTK-aware scaling is a larger rope_theta in config.json; the GGUF carries it."


def _searched(s: float, reach: float) -> tuple[Range, ...]:
    """The factor, hence theta: the base is theta s^(r/(r-2))."""
    return (stretch(s, reach),)


METHOD = Method(
    "NTK-aware (static)",
    20,
    "bloc97 2023; arXiv 2309.00071 section 3.1",
    _parameters,
    _slope,
    llama_cpp=_llama_cpp,
    searched=_searched,
    formula=Formula("omega_i s^(-2i/(r-2))", "-(2i/(r-2)) omega_i(s)"),
)
