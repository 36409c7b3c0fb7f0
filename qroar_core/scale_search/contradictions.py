"""What of a search's report does not follow from the rest of it: the choice from the decision, words from numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qroar_core.scale_search.gain import Decision, contradicts, nats
from qroar_core.scale_search.result import SearchReport

KEPT = "significant gain"  # how the reason begins where scales are kept
OLDER = re.compile(r"[+-]\d+\.\d+ nats \[[^\]]*\] on \d+ held-out windows?")  # until 2026-11 held-out text decided
COUNTED = re.compile(r"(\d+) development windows?(?: \([^)]*\))? of (\d+) tokens")


def contradictions_of(report: SearchReport) -> Iterator[str]:
    """What contradicts itself, in a few words each; nothing where all of it follows."""
    found, decision = report.chosen == "found", report.decision
    if found != report.reason.startswith(KEPT):
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
    if report.verdict.acts == "no" and (report.history or found):
        yield "verdict: scales cannot act, and yet they were searched"


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
