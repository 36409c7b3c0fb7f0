"""Are the scales kept? Decided by their gain on development text that the search has not read.

Calibration text is what they were searched on, and held-out text belongs to the evaluation: a decision taken there
would make its report one on text that has chosen what it reports on. The short-context guard reads development text
too, at another length: it can only take scales back, not choose among them by what they win here.
"""

from __future__ import annotations

from dataclasses import replace

from qroar_core.errors import BadText
from qroar_core.models.text import Windows, longest_held, windows
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.search_objectives import objectives
from qroar_core.statistics.intervals import paired_interval
from qroar_core.transforms.scales import Scales

WINDOWS, FEWEST = 8, 2
SHORTEST = 4  # windows below this part of the searched length say nothing of it


class TooLittleText(BadText):
    """Development text does not hold what a decision needs."""


def decision_windows(problem: SearchProblem) -> Windows:
    """Up to eight windows of development text, of the searched length or of the longest of which it holds two.

    Raises:
        TooLittleText: not even two of a quarter of the searched length that the search has not read.
    """
    documents, read = problem.texts["development"], _read_by_the_objective(problem)
    length = longest_held(problem.loaded.tokenizer, documents, problem.length, FEWEST, read)
    least = max(2, problem.length // SHORTEST)
    if length < least:
        beside = (
            "" if read is None else f" beside what the {problem.spec.objective} objective has read ({read.counted})"
        )
        raise TooLittleText(
            f"development text holds no two windows of at least {least} tokens{beside}, so no gain can be measured",
            do="give a longer text or a shorter length",
        )
    return windows(
        problem.loaded.tokenizer,
        documents,
        length,
        WINDOWS,
        problem.spec.seed,
        fewer=True,
        least=FEWEST,
        apart_from=read,
    )


def decide(scorer: WindowScorer, problem: SearchProblem, scales: Scales, *, from_untied: bool = False) -> Decision:
    """Measure the gain.

    Args:
        from_untied: of tied pairs and scales together, from the quantized model without either.
    Raises:
        TooLittleText: see `decision_windows`.
    """
    texts = decision_windows(problem)
    before = replace(scorer, rope=replace(scorer.rope, tie=())) if from_untied else scorer
    gain = paired_interval(
        before.nll(texts.ids, None, f"gain: identity{', without a tie' if from_untied else ''}"),
        scorer.nll(texts.ids, scales, "gain: tuned"),
    )
    length = texts.ids.shape[1]
    if length < problem.length:
        shorter = f"(the longest of which the text holds two; searched at {problem.length} tokens)"
        where = f"{len(texts)} development windows of {length} tokens {shorter}"
    else:
        where = f"{texts.counted_as('development')} of {length} tokens"
    if _read_by_the_objective(problem) is not None:
        where += ", apart from those that the search has read"
    if from_untied:
        where += ", from the model without a tie"
    return Decision(
        gain=gain.mean, low=gain.low, high=gain.high, windows=len(texts), length=length, targets=length - 1, text=where
    )


def _read_by_the_objective(problem: SearchProblem) -> Windows | None:
    """Development text that must not decide; None where the objective reads none of it."""
    return problem.development() if objectives()[problem.spec.objective].reads_development else None
