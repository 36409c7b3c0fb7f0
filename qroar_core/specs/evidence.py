"""What the controls and the replication are asked: how much held-out text, which other scales, which bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from qroar_core.checks import Compact, at_least, check_numbers
from qroar_core.errors import BadSpec

CONTROL_DTYPES = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True, repr=False)
class ControlSpec(Compact):
    """Which controls stand beside the tuned scales, on which windows of held-out text."""

    length: int | None = None  # tokens a window; None: the native window times the factor
    windows: int = 8
    shuffles: int = 3  # drawings of each shuffle
    seeds: tuple[int, ...] = (1, 2)  # other seeds to search with; who calls makes those searches
    collections: tuple[str, ...] = ()  # other texts to search on, likewise
    dtypes: tuple[str, ...] = CONTROL_DTYPES  # number formats to measure the tuned gain in, besides the loaded one
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def __post_init__(self) -> None:
        check_numbers(self)
        at_least("windows", self.windows, 2)
        at_least("shuffles", self.shuffles, 1)
        at_least("chunk", self.chunk, 1)
        if self.length is not None:
            at_least("length", self.length, 2)
        if unknown := [name for name in self.dtypes if name not in CONTROL_DTYPES]:
            raise BadSpec(f"unknown number format {unknown[0]!r}", do=f"choose from {', '.join(CONTROL_DTYPES)}")
        _confident(self.confidence)


@dataclass(frozen=True, slots=True, repr=False)
class ReplicationSpec(Compact):
    """On which windows of held-out text the papers' claims are tested, and the bounds that two of them need."""

    length: int | None = None  # long context L, tokens; None: the native window times the factor
    short_length: int | None = None  # short context; None: the native window, at most a quarter of L
    windows: int = 8
    tolerance: float = 0.01  # nats per token that scales may cost at short context
    least_cut: float = 0.07  # share of the perplexity that the papers say is cut at least
    chunk: int = 512
    confidence: float = 0.95
    seed: int = 0
    fewer: bool = field(default=False, compare=False)  # nobody asked for so many: take what the text holds

    def __post_init__(self) -> None:
        check_numbers(self)
        at_least("windows", self.windows, 2)
        at_least("chunk", self.chunk, 1)
        at_least("tolerance", self.tolerance, 0.0)
        for name in ("length", "short_length"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 2)
        if not 0 < self.least_cut < 1:
            raise BadSpec(f"least_cut must lie in (0, 1), got {self.least_cut}")
        _confident(self.confidence)


def _confident(confidence: float) -> None:
    if not 0.5 < confidence < 1:
        raise BadSpec(f"confidence must lie in (0.5, 1), got {confidence}")
