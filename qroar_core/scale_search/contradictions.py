"""What of a search's report does not follow from the rest of it: the choice from the decision, words from numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise

from qroar_core.scale_search.gain import LEAST_SHOWN_NATS, Decision, contradicts, nats
from qroar_core.scale_search.objective import FIRST
from qroar_core.scale_search.result import HistoryPoint, SearchReport

KEPT_REASON = "significant gain"  # how the reason begins where scales are kept
OLDER = re.compile(r"[+-]\d+\.\d+ nats \[[^\]]*\] on \d+ held-out windows?")  # until 2026-11 held-out text decided
GUARD = re.compile(
    r"(halved toward identity, |quartered toward identity, )?"
    r"costs ([+-](?:\d+\.\d+|inf|nan)) nats at (\d+) tokens( even quartered)?, allowed (\d\S*?)(: rejected)?"
    r"(?:, on \d+ windows?(?: \(all that the text holds, \d+ by default\))?)?"
)
NO_GUARD = ("not asked", "not needed")  # of a cancelled search, and where scales cannot act
FEW_ROWS = re.compile(r"\w+ step \d+")  # label of a candidate that was seen on a few rows only: it is never the best
MIXTURES = ("best of every unit", "gradient result")  # labels of the best itself, once nothing is left to try
OPEN = 1.1e-5  # what six digits of two numbers leave open of their difference, as a share of them
COUNTED = re.compile(r"(\d+) development windows?(?: \([^)]*\))? of (\d+) tokens")


def contradictions_of(report: SearchReport) -> Iterator[str]:
    """What contradicts itself, in a few words each; nothing where all of it follows."""
    found, decision = report.chosen == "found", report.decision
    if found != report.reason.startswith(KEPT_REASON):
        yield f"reason: {'not ' * found}that of scales that are kept, chosen is {report.chosen}"
    if decision is None:
        if found and not OLDER.search(report.reason):
            yield "decision: none, though scales were kept"
    else:
        yield from _decision(decision)
        if contradicts(found, decision.low):
            yield f"chosen: {report.chosen}, decision.low is {decision.low:g}"
        elif decision.measured not in report.reason and not _rounded_alike(decision, report.reason):
            words = nats(decision.gain, decision.low, decision.high)
            yield f"reason: does not say what the decision says ({words} and on which text)"
    if any(low > high for bands in report.bounds for low, high in bands):
        yield "bounds: a lower one above the higher"
    if report.trials != len(report.history):
        yield f"trials: {report.trials}, history has {len(report.history)}"
    yield from _steps(report.history)
    yield from _best(report)
    yield from _guard(report)
    if report.seconds < 0 or report.forward_seconds < 0:
        yield "seconds: below 0"
    elif abs(report.forward_equivalents * report.forward_seconds - report.seconds) > 3 * OPEN * report.seconds:
        yield f"forward_equivalents: {report.forward_equivalents:g}, not seconds over forward_seconds"
    if (polish := report.polish) is not None:
        if [one.length for one in polish.costs] != [one.length for one in polish.polished]:
            yield "polish: costs without and with it are not of the same lengths"
        if not 0 <= polish.error_left <= 1:
            yield f"polish.error_left: {polish.error_left:g}, and a layer that it does not help keeps none"
    if report.verdict.acts == "no" and (report.history or found):
        yield "verdict: scales cannot act, and yet they were searched"


def _steps(history: list[HistoryPoint]) -> Iterator[str]:
    """Starts stand at 0, wherever a search that was taken up again tried one; the others come in their order."""
    if any(one.step < 0 for one in history):
        yield f"history: step {min(one.step for one in history)}"
    for before, after in pairwise([one for one in history if one.step > 0]):
        if after.step < before.step or (after.step == before.step and after.label != before.label):
            yield f"history: step {after.step} behind step {before.step}"
            return


def _best(report: SearchReport) -> Iterator[str]:
    """The best so far never rises, is at most the least that was measured exactly, and ends at what was found.

    Under the cached objective it may be below every candidate, as each head keeps its own best; and what a cancelled
    search had settled on is in no candidate. What is seen on a few rows leaves it as it is. A search through the whole
    model tries all its starts before it notes the first.
    """
    history = report.history
    if not history:
        return
    identity = next((one for one in history if one.label == "identity"), None)
    if identity is not None and not _near(identity.objective, report.objective_identity):
        yield f"objective_identity: {report.objective_identity:g}, history has {identity.objective:g}"
    reached, last = history[0].objective, history[0].best
    starts = min((one.objective for one in history if one.step == 0), default=reached)
    exact = report.objective != FIRST and not any(FEW_ROWS.fullmatch(one.label) for one in history)
    for i, one in enumerate(history):
        few = FEW_ROWS.fullmatch(one.label) is not None
        reached = reached if few else min(reached, one.objective)
        if _above(one.best, last):
            yield f"history.{i}.best: {one.best:g}, it was {last:g} before"
        elif _above(one.best, reached):
            yield f"history.{i}.best: {one.best:g}, {reached:g} was reached"
        elif (exact or one.label in MIXTURES) and _above(min(reached, starts) if exact else one.objective, one.best):
            yield f"history.{i}.best: {one.best:g}, nothing below {min(reached, starts):g} was reached"
        elif few and i and not _near(one.best, last):
            yield f"history.{i}.best: {one.best:g}, a candidate seen on a few rows leaves it at {last:g}"
        else:
            last = one.best
            continue
        return
    if report.cancelled:  # undecided, and the last iterate may have been settled behind the last candidate
        if _above(report.objective_found, last):
            yield f"objective_found: {report.objective_found:g}, history has reached {last:g}"
    elif (said := GUARD.fullmatch(report.guard)) is not None and said[6]:
        if not _near(report.objective_found, report.objective_identity):
            yield f"objective_found: {report.objective_found:g}, the guard has rejected all but identity"
    elif said is not None and not said[1]:  # else of scales between those found and identity
        if not _near(report.objective_found, last):
            yield f"objective_found: {report.objective_found:g}, the best in history is {last:g}"
    elif _above(last, report.objective_found):
        yield f"objective_found: {report.objective_found:g}, the best in history is {last:g}"


def _guard(report: SearchReport) -> Iterator[str]:
    """Whether scales are kept follows from what they cost at short context."""
    said = GUARD.fullmatch(report.guard)
    if said is None:
        if report.chosen == "found" or not report.guard.startswith(NO_GUARD):
            yield "guard: does not say what the scales cost at short context"
        return
    cost, allowed, rejected = float(said[2]), float(said[5]), said[6] is not None
    if rejected != (said[4] is not None) or (rejected and said[1]):
        yield "guard: rejected, or halved, but not both"
    elif rejected and report.chosen == "found":
        yield "guard: rejected, and yet the scales were kept"
    elif cost < allowed - LEAST_SHOWN_NATS if rejected else not cost <= allowed + LEAST_SHOWN_NATS:
        yield f"guard: {'rejected' if rejected else 'passed'}, it costs {said[2]} nats and allows {said[5]}"


def _above(one: float, other: float) -> bool:
    """Is one number of six digits above another?"""
    return one > other and not _near(one, other)


def _near(one: float, other: float) -> bool:
    return one == other or (math.isfinite(one - other) and abs(one - other) <= OPEN * (abs(one) + abs(other)) + 1e-12)


def _decision(decision: Decision) -> Iterator[str]:
    if decision.windows < 1:
        yield f"decision.windows: {decision.windows}"
    if not 1 <= decision.targets < decision.length:
        yield f"decision.targets: {decision.targets} of {decision.length} tokens"
    middle, half = (decision.low + decision.high) / 2, (decision.high - decision.low) / 2
    if abs(middle - decision.gain) > 1e-5 * (abs(decision.gain) + half) + 1e-12:
        yield f"decision.gain: {decision.gain:g}, its interval is around {middle:g}"
    said = COUNTED.match(decision.text)
    if said and (int(said[1]), int(said[2])) != (decision.windows, decision.length):
        yield f"decision.text: {said[1]} windows of {said[2]}, decision has {decision.windows} of {decision.length}"


def _rounded_alike(decision: Decision, reason: str) -> bool:
    """The reason was written before its numbers were rounded to a file's six digits: the fourth may be one off."""
    said = re.search(r"([+-]\d+\.\d+) nats \[([+-]\d+\.\d+), ([+-]\d+\.\d+)\] on (.*?)\)?$", reason)
    if said is None or said[4] != decision.where:
        return False
    numbers = (decision.gain, decision.low, decision.high)
    return all(abs(float(said[i]) - n) <= 0.51e-4 + 6e-6 * abs(n) for i, n in enumerate(numbers, 1))


__all__ = ["contradictions_of"]
