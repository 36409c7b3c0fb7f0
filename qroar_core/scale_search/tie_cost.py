"""What tied pairs cost in nats on development text, nothing quantized, with and without a polish."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.interpolations.tie import Tie
from qroar_core.models.text import longest_held
from qroar_core.progress import OnStep
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result_ties import PolishReport, TieCost
from qroar_core.specs import QuantSpec
from qroar_core.statistics.intervals import paired_interval
from qroar_core.transforms.polish import Polish
from qroar_core.transforms.scales import Scales

MOST_READ = 32_768  # tokens of all windows together
WINDOWS, FEWEST = 4, 2  # of development text, within MOST_READ tokens where that leaves two
ALLOWED, ALLOWED_FULL = 0.005, 0.01  # nats, up to the native length and beyond it


def cost_lengths(problem: SearchProblem) -> list[int]:
    """The searched length, where a tie costs most, the native one and a short context, in tokens."""
    full, native = problem.length, problem.loaded.geometry.original_context
    return sorted({max(2, min(native, full // 4)), min(native, full), full}, reverse=True)


def cost_of(
    problem: SearchProblem,
    ties: tuple[Tie, ...],
    length: int,
    before: dict[int, list[float]],
    on_step: OnStep,
    polish: Scales | None = None,
) -> TieCost:
    """What tying pairs costs at one length, nothing quantized, on development text.

    Args:
        length: tokens per window, or as many as the longest has of which the text holds two.
        before: NLL of the model without the tie by length, looked up and noted.
        polish: what the tied model is measured with.
    """
    held = longest_held(problem.loaded.tokenizer, problem.texts["development"], length, FEWEST)
    read = max(FEWEST, min(WINDOWS, MOST_READ // max(2, held)))
    ids = problem.windows("development", max(2, held), read, fewer=True)

    def nll(tied: tuple[Tie, ...], scales: Scales | None, what: str) -> list[float]:
        rope = replace(problem.rope, tie=tied)
        return WindowScorer(problem.loaded, rope, QuantSpec(), on_step).nll(ids, scales, what)

    if length not in before:
        before[length] = nll((), None, f"without a tie at {ids.shape[1]} tokens")
    how = "tied" if polish is None else "tied and polished"
    cost = paired_interval(nll(ties, polish, f"{how} at {ids.shape[1]} tokens"), before[length])
    return TieCost(
        length=ids.shape[1],
        windows=len(ids),
        nats=cost.mean,
        low=cost.low,
        high=cost.high,
        allowed=ALLOWED_FULL if length > problem.loaded.geometry.original_context else ALLOWED,
    )


def polish_report(problem: SearchProblem, polish: Polish, error_left: float, on_step: OnStep) -> PolishReport:
    """What the problem's tie costs with and without a polish, at every length at which a tie is measured."""
    before: dict[int, list[float]] = {}
    lengths, tie = cost_lengths(problem), problem.rope.tie
    alone = replace(problem.none, polish=polish)
    return PolishReport(
        error_left=error_left,
        costs=[cost_of(problem, tie, length, before, on_step) for length in lengths],
        polished=[cost_of(problem, tie, length, before, on_step, alone) for length in lengths],
    )
