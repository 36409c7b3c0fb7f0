"""What one position interpolation says about itself: a file of `interpolations/methods` is one of them.

Tensors appear in annotations alone and torch is imported inside the functions that need it, so that the command line
can list the methods without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from qroar_core.interpolations.spec import RopeSpec

if TYPE_CHECKING:
    from torch import Tensor


ROUNDING = 1e-6  # relative difference of a frequency from the native one that float32, which models keep it in, makes


@dataclass(frozen=True, slots=True, eq=False)
class Interpolation:
    """One position interpolation at work.

    Args:
        spec: method and factor s.
        native: omega_i before interpolation, rad/token, descending; (rotary_dim // 2,).
        scaled: omega_i(s) as the model runs it; same shape. 0 for a pair that stands still.
        original_context: L0, tokens; `spec.original_context` overrides it.
        length: L, tokens: what dynamic NTK and LongRoPE choose their frequencies by.
        kept: the checkpoint's own block of rope_parameters where the setting keeps it and `spec` is read from it: it
            may hold more than a spec does.
        untied: omega_i(s) of the method before `spec.tie` made frequencies equal. None: `scaled`, as nothing is tied.
    Raises:
        ValueError: shapes differ, or a native frequency is not positive.
    """

    spec: RopeSpec
    native: Tensor
    scaled: Tensor
    original_context: int
    length: int
    kept: Mapping[str, Any] = field(default_factory=dict)
    untied: Tensor | None = None

    def __post_init__(self) -> None:
        if self.native.ndim != 1 or self.native.shape != self.scaled.shape:
            raise ValueError(f"frequencies must be 1-D alike: {tuple(self.native.shape)}, {tuple(self.scaled.shape)}")
        if not bool((self.native > 0).all()):
            raise ValueError("native frequencies must be positive")
        if self.spec.tie and self.untied is None:
            raise ValueError("tied pairs need the frequencies that they had before")

    @property
    def context(self) -> int:
        """L0 in force, tokens."""
        return self.spec.original_context or self.original_context


@dataclass(frozen=True, slots=True)
class RopeParameterInputs:
    """What a method's block of `rope_parameters` is made from."""

    spec: RopeSpec
    theta: float  # RoPE base of the checkpoint
    rotary_dim: int  # channels, two a pair
    context: int  # L0 in force, tokens
    native: Mapping[str, Any]  # the checkpoint's own block

    @property
    def pairs(self) -> int:
        """RoPE pairs a head."""
        return self.rotary_dim // 2

    def block(self, kind: str, **more: Any) -> dict[str, Any]:
        """transformers' block of this kind at the asked factor."""
        return {"rope_type": kind, "factor": float(self.spec.factor)} | more


@dataclass(frozen=True, slots=True)
class Option:
    """A field of RopeSpec that one method alone reads, and what a form says about it."""

    field: str
    help: str


@dataclass(frozen=True, slots=True)
class Range:
    """A number of a method that a search of interpolations may choose, and where it looks for it.

    Args:
        name: a field of RopeSpec, or what the method's `with_numbers` reads.
        low, high: both may be chosen. log: evenly in the logarithm of the number.
        unit: of the number; empty: it has none.
        formula: both ends in s, L and L0 where they follow from those, as docs/method.md has them.
    """

    name: str
    low: float
    high: float
    log: bool = True
    unit: str = ""
    formula: str = ""


def stretch(s: float, reach: float) -> Range:
    """The factor itself: from what still promises the length that is read to three times the one asked for.

    Args:
        s: the factor asked for.
        reach: the length over the native window L0.
    """
    least = max(1.0, min(s, math.ceil(100 * reach) / 100))
    return Range("factor", least, 3 * s, formula="max(1, min(s, L/L0)) to 3 s")


ATTENTION = Range("attention_factor", 0.9, 1.5)  # of cos and sin; YaRN's own is 1.07 at s = 2, 1.42 at s = 64


def _none(at: Interpolation) -> float:
    return 0.0


def _nothing_to_say(spec: RopeSpec, native: int) -> tuple[list[str], str]:
    return [], ""


def _no_options(block: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _not_searched(s: float, reach: float) -> tuple[Range, ...]:
    return ()


def _as_fields(spec: RopeSpec, numbers: Mapping[str, float], pairs: int) -> RopeSpec:
    return replace(spec, **numbers)  # type: ignore[arg-type]  # each is a field of the spec


def _without_lists(divisors: Sequence[float]) -> dict[str, float]:
    return {}


def has_fixed_attention_factor(at: Interpolation) -> bool:
    """Whether a(s) is a number of the setting's, or of the checkpoint's, that does not move with s."""
    return at.spec.attention_factor is not None or at.kept.get("attention_factor") is not None


@dataclass(frozen=True, slots=True)
class Formula:
    """What a method computes, as docs/method.md section 2.1 writes it; i is the pair, r rotary channels, s the factor.

    Args:
        frequency: omega_i(s).
        slope: d omega_i / d ln s.
        attention_factor: a(s) on cos and sin.
    """

    frequency: str
    slope: str
    attention_factor: str = "1"


@dataclass(frozen=True, slots=True)
class Method:
    """One position interpolation: its formula, its names, what it writes and what runtimes make of it.

    Args:
        label: as menus, tables and figures call it.
        place: where it stands in menus and tables; smaller comes first.
        source: paper or code of the formula.
        parameters: the block of transformers' `rope_parameters` beside rope_theta; what an export writes too.
        slope: d omega_i / d ln s, rad/token per e-fold of the factor, (pairs,), float64, <= 0.
        attention_factor_slope: d ln a / d ln s of the factor a(s) on cos and sin.
        has_attention_factor: it multiplies cos and sin by an a(s) that is not 1.
        reads_window: it counts from the native window L0, which can then be asked for.
        takes_lists: it needs a factor per pair, from the checkpoint or given.
        factor_shown: the factor that its frequencies hold at, where that is not the one asked for.
        options: fields of RopeSpec of its own.
        required_keys: without which a checkpoint's block of this kind says nothing.
        own_options: these fields as a checkpoint's block of this kind has them: the way back from `parameters`.
        llama_cpp: options of llama-server (None: it cannot serve this), and a sentence about them, for a spec and the
            native window.
        searched: the numbers that a search may choose, for the factor s and the length over the native window.
        with_numbers: a spec with such numbers, for so many pairs.
        near: of a method that `takes_lists`, the numbers that come nearest to what each pair's frequency is divided by.
        length_matters: its frequencies follow the length that is read, so that no list holds them.
        formula: what docs/method.md writes of it. None: its file has it.
    """

    label: str
    place: int
    source: str
    parameters: Callable[[RopeParameterInputs], dict[str, Any]]
    slope: Callable[[Interpolation], Tensor]
    attention_factor_slope: Callable[[Interpolation], float] = _none
    has_attention_factor: bool = False
    reads_window: bool = False
    takes_lists: bool = False
    factor_shown: Callable[[Interpolation], float] = lambda at: at.spec.factor
    options: tuple[Option, ...] = ()
    required_keys: tuple[str, ...] = ()
    own_options: Callable[[Mapping[str, Any]], dict[str, Any]] = _no_options
    llama_cpp: Callable[[RopeSpec, int], tuple[list[str] | None, str]] = _nothing_to_say
    searched: Callable[[float, float], tuple[Range, ...]] = _not_searched
    with_numbers: Callable[[RopeSpec, Mapping[str, float], int], RopeSpec] = _as_fields
    near: Callable[[Sequence[float]], dict[str, float]] = _without_lists
    length_matters: bool = False
    formula: Formula | None = None
