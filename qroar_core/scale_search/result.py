"""What a search tried and found, apart from the scales themselves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from qroar_core.result import Result, Unbounded
from qroar_core.result_shapes import ANY, axes
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.result_ties import PolishReport


class Verdict(Result):
    """Whether scales can act under a quantizer at all, said before any search.

    acts: `yes` they can repair quantization; `temperature` only a logit temperature that acts on the
    unquantized model alike (shared mode); `no` an exact no-op.
    """

    acts: Literal["yes", "temperature", "no"]
    reason: str


class HistoryPoint(Result):
    """One point of the search's history."""

    step: int
    label: str  # "identity", "smooth_attention", "gradient step 12", "layer 3 band 2 g=0.84"
    objective: Unbounded  # infinite: its scales overflowed
    best: float


class ValueMapReport(Result):
    """What value maps leave of a rounded V cache's error.

    error_left: of the attention output behind W_O on the text that was searched, as a share of that without maps; mean
    over layers and KV heads. chosen: how many KV heads took which map: a name of `transforms.value_starts`, or
    "gradient" where it was moved from there.
    """

    error_left: float
    chosen: dict[str, int]

    @property
    def words(self) -> str:
        """`36% of the error of V's rounding left, mean over layers and KV heads; chosen: gradient 80, identity 10`."""
        chosen = ", ".join(f"{name} {count}" for name, count in self.chosen.items())
        return (
            f"{self.error_left:.0%} of the error of V's rounding left, mean over layers and KV heads; chosen: {chosen}"
        )


class SearchReport(Result):
    """How the scales were found. `bounds` are log2 g, [layer or 0][band][low, high]."""

    verdict: Verdict
    method: str
    objective: str
    objective_identity: float
    objective_found: float
    history: Annotated[list[HistoryPoint], axes(ANY)]
    bounds: Annotated[list[list[tuple[float, float]]], axes("entry", "band", "ends")]
    trials: int
    seconds: float
    forward_seconds: float  # one bare forward pass over the text the search used
    forward_equivalents: float  # seconds / forward_seconds
    guard: str  # what the short-context guard said
    text: str  # windows used: split, count, length, digest
    chosen: Literal["found", "identity"]
    reason: str  # why this was chosen, one sentence
    decision: Decision | None = None  # the gain that decided; None where none was measured, and in older runs
    value_maps: ValueMapReport | None = None  # None where none were searched, and in older runs
    polish: PolishReport | None = None  # likewise

    def facts(self) -> dict[str, Any]:
        """What a scales.json says about the search that made it."""
        return self.model_dump(include={"objective", "method", "bounds", "trials", "seconds", "forward_equivalents"})

    @property
    def cancelled(self) -> bool:
        """True where the search was cancelled before its gain was measured."""
        return self.reason.startswith("cancelled")
