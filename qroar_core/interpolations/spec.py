"""Which position interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from qroar_core.checks import Compact, at_least, check_numbers
from qroar_core.errors import BadSpec
from qroar_core.interpolations.tie import Tie, groups_of_ties, require_apart, tie_of_block, ties_text
from qroar_core.members import names_in

LARGEST = 1000.0  # attention factor: beyond, and below its inverse, float16 weights lose what it multiplies
MOST = 1e7  # a longer window than any memory holds; past 1e300 the window itself overflows
PER_PAIR = "give one per RoPE pair"
# names of files, the checkpoint's own first; interpolations/registry.py says what they are
ROPE_METHODS = tuple(sorted(names_in(Path(__file__).parent / "methods"), key=lambda name: (name != "default", name)))


@dataclass(frozen=True, slots=True, repr=False)
class RopeSpec(Compact):
    """A position interpolation.

    Args:
        method: `default`: the checkpoint's own RoPE, exactly as it ships; else a name of ROPE_METHODS, such as `yarn`.
        factor: the scale s that the window is stretched by, at least 1.
        original_context: tokens of the window that is stretched. None: the model's native window L0.
        beta_fast, beta_slow: YaRN's (arXiv 2309.00071), turns per native window: pairs with more than the first stay as
            they are, pairs with fewer than the second are interpolated fully.
        low_freq_factor, high_freq_factor: llama3's, likewise: the lower border and the upper one.
        long_factor, short_factor: LongRoPE's, past and inside the native window: what each pair's frequency is divided
            by, one number a pair. None: the checkpoint's own lists.
        tie: groups of neighbouring pairs that turn at one frequency, whatever the method.
        attention_factor: YaRN's and LongRoPE's, on cos and sin. None: what the method makes of its factor.
    Raises:
        BadSpec: an unknown method, or numbers that it cannot take.
    """

    PUBLIC: ClassVar = "qroar.Rope"

    method: str = "default"  # a name of ROPE_METHODS
    factor: float = 1.0
    original_context: int | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    low_freq_factor: float = 1.0  # as shipped with Llama 3.1
    high_freq_factor: float = 4.0
    long_factor: tuple[float, ...] | None = None
    short_factor: tuple[float, ...] | None = None
    tie: tuple[Tie, ...] = ()
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        if self.method not in ROPE_METHODS:
            raise BadSpec(f"unknown rope method {self.method!r}", do=f"choose one of {', '.join(ROPE_METHODS)}")
        check_numbers(self, long_factor=PER_PAIR, short_factor=PER_PAIR)
        at_least("factor", self.factor, 1.0)
        if self.factor > MOST:
            raise BadSpec(f"factor must be at most {MOST:g}, got {self.factor:g}")
        if self.method == "default" and self.factor != 1.0:
            known = ", ".join(name for name in ROPE_METHODS if name != "default")
            raise BadSpec(f"factor {self.factor} needs a method", do=f"choose one of {known}, or leave the factor out")
        if self.original_context is not None:
            at_least("original_context", self.original_context, 2)
            if self.original_context > MOST:
                raise BadSpec(f"original_context must be at most {MOST:g}, got {self.original_context:g}")
        if not self.beta_fast > self.beta_slow > 0:
            raise BadSpec(f"need beta_fast > beta_slow > 0, got {self.beta_fast}, {self.beta_slow}")
        if not self.high_freq_factor > self.low_freq_factor > 0:
            raise BadSpec("need high_freq_factor > low_freq_factor > 0")
        object.__setattr__(self, "tie", groups_of_ties(self.tie))
        require_apart(self.tie)
        if self.attention_factor is not None:
            at_least("attention_factor", self.attention_factor, 1 / LARGEST)
            if self.attention_factor > LARGEST:
                raise BadSpec(f"attention_factor must be at most {LARGEST:g}, got {self.attention_factor:g}")

    def _value_text(self, name: str, value: object) -> str:
        return f"qroar.ties({ties_text(self.tie)!r})" if name == "tie" else repr(value)


def rope_of_block(block: Mapping[str, Any]) -> RopeSpec:
    """The spec that a file's block of plain values says, lists for tuples.

    Raises:
        TypeError: keys that a spec does not have. BadSpec: values or entries of a tie that it cannot take.
    """
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in block.items()}
    context = fields.get("original_context")
    if isinstance(context, float) and context.is_integer():
        fields["original_context"] = int(context)  # files of before 2026-12 may hold 2048.0
    if "tie" in fields:
        fields["tie"] = tuple(tie_of_block(group) for group in fields["tie"])
    return RopeSpec(**fields)
