"""The attention heads the lessons are shown on, and their frequencies with and without interpolation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qroar_core.interpolations.bands import turns_per_window
from qroar_core.interpolations.frequencies import Rope
from qroar_core.interpolations.registry import interpolation_methods, stretching
from qroar_core.interpolations.rope_without_model import plain_rope
from qroar_core.interpolations.tie import Tie
from qroar_core.maths.rope import static_ntk
from qroar_core.specs import RopeSpec

REMEMBERED = 32  # answers of each lesson that stay, for the page that asks again at every click
STRETCHING = tuple(stretching())


@dataclass(frozen=True, slots=True)
class Head:
    """A head whose channels all rotate: RoPE base, channels, native window L0 in tokens."""

    name: str
    theta: float
    head_dim: int
    original_context: int

    @property
    def n_pairs(self) -> int:
        """RoPE pairs."""
        return self.head_dim // 2


# from each checkpoint's config: rope_theta, head_dim, max_position_embeddings
HEADS = (
    Head("Llama 2 7B", 10_000.0, 128, 4096),
    Head("Llama 3 8B", 500_000.0, 128, 8192),
    Head("SmolLM2 135M", 100_000.0, 64, 8192),
    Head("this dashboard's demo model", 10_000.0, 64, 256),
)


def native(head: Head) -> Tensor:
    """omega_i without interpolation, rad/token, float64; (pairs,)."""
    return static_ntk(head.theta, head.head_dim, 1.0)


def wavelength(inv_freq: Tensor) -> Tensor:
    """Tokens per turn, float64."""
    return 1 / turns_per_window(inv_freq, 1)


def longrope_example(pairs: int, factor: float) -> tuple[float, ...]:
    """A made-up LongRoPE list: divisors rising evenly from 1 at the fastest pair to s at the slowest.

    Real lists are searched per checkpoint (arXiv 2402.13753) and shipped with it.
    """
    return tuple(1 + (factor - 1) * i / (pairs - 1) for i in range(pairs))


def stretched(head: Head, factor: float) -> int:
    """The context an interpolation of this factor is made for, s L0, tokens."""
    return round(factor * head.original_context)


def interpolated(head: Head, method: str, factor: float, tie: tuple[Tie, ...] = ()) -> Rope:
    """omega_i(s) and the attention factor as transformers sets them for a context of s L0 tokens, then tied."""
    listed = longrope_example(head.n_pairs, factor) if interpolation_methods()[method].takes_lists else None
    spec = RopeSpec(method, factor, long_factor=listed, tie=tie)
    return plain_rope(head.theta, head.head_dim, head.original_context, spec, stretched(head, factor))
