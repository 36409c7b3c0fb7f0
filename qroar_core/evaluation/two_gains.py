"""What the search's decision and the evaluation say together: which scales are kept, and why two gains differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qroar_core.evaluation.result import Evaluation
from qroar_core.interpolations.tie import COUNTED, Tie
from qroar_core.scale_search.gain import on_held_out
from qroar_core.scale_search.result import SearchReport
from qroar_core.statistics.intervals import shows_above_zero

OLDER = re.compile(r"([+-]\d+\.\d+) nats \[[^\]]*\] on (\d+ held-out windows?)")  # until 2026-11 held-out text decided


def decided_on_held_out(report: SearchReport) -> bool:
    """True of runs of older versions, whose decision read windows of the text that an evaluation reports on."""
    return report.decision is None and OLDER.search(report.reason) is not None


def kept_words(report: SearchReport, evaluation: Evaluation) -> str:
    """Which scales are kept and by which two numbers, one sentence; empty where nothing was tuned."""
    gain = evaluation.gain
    if gain is None:
        return ""
    there = "the search decided"
    if report.decision is not None or decided_on_held_out(report):
        there += f" on {'held-out' if report.decision is None else 'development'} text"
    here = "the evaluation on held-out text"
    only = evaluation.holds_only.replace(", not", " but not")
    said = f"a gain that is significant {only}" if only else ""
    if report.chosen == "found" and gain.significant:
        return f"kept: the scales found, as {there}; {here} shows {said or 'a significant gain too'}"
    if report.chosen == "found":
        return f"kept: identity; {there} to keep the scales, but {here} shows no significant gain and takes them back"
    if gain.significant:
        return (
            f"kept: identity, as {there}; {here} shows {said or 'a significant gain'} of the scales found, but "
            "held-out text only reports and can only take scales back"
        )
    return f"kept: identity, as {there}; {here} shows no significant gain either"


def under_a_tie(ties: Sequence[Tie], evaluation: Evaluation | None) -> str:
    """That gains count under tied pairs, and what the tie costs where that is measured; empty without a tie."""
    if not ties:
        return ""
    if evaluation is None or evaluation.tie is None:
        return f"{COUNTED}, which there is none of under this setup yet"
    return f"{COUNTED}. It says: {evaluation.tie.sentence}"


def loses_to_tie(evaluation: Evaluation | None) -> bool:
    """Is it measured that tie and scales together gain nothing significant over the model without a tie?"""
    tie = evaluation.tie if evaluation is not None else None
    return tie is not None and tie.ci_low is not None and not shows_above_zero(tie.ci_low)


def why_different(
    report: SearchReport, evaluation: Evaluation, there: str = "the search", here: str = "this evaluation"
) -> str:
    """Why an evaluation's gain is not that of the search's decision, one sentence; empty where one is missing.

    Args:
        there, here: what the two are called where it is said.
    """
    gain, decision = evaluation.gain, report.decision
    older = OLDER.search(report.reason)
    if gain is None or (decision is None and older is None):
        return ""
    read = on_held_out(gain.windows, gain.length, evaluation.targets, evaluation.stride)
    if evaluation.targets < gain.length - 1:
        read += ", those with the most text before them"
    if decision is not None:
        number, text, apart = f"{decision.gain:+.4f}", decision.where, "different documents"
    else:
        assert older is not None
        number, text, apart = older[1], f"{older[2]}, every token but the first scored", "different tokens"
    return (
        f"{there}'s {number} nats and {here}'s {gain.delta_nll:+.4f} nats for the same scales differ because they "
        f"are measured on {apart}: {there}'s on {text}; {here}'s on {read}"
    )


def why_beside(evaluation: Evaluation, gain: float, windows: int, length: int, *, same: bool = True) -> str:
    """Why an evaluation's gain is not that of this page, which scores all targets of its own windows, one sentence.

    Empty where nothing was tuned, or where the two are the same number.

    Args:
        gain, windows, length: of the page, all on held-out text.
        same: the scales are those that the evaluation measures; False: they were searched again for this page.
    """
    other = evaluation.gain
    if other is None or f"{other.delta_nll:+.4f}" == f"{gain:+.4f}":
        return ""
    here = on_held_out(windows, length, length - 1, None)
    there = on_held_out(other.windows, other.length, evaluation.targets, evaluation.stride)
    apart = "on other targets" if here != there else "on the same windows"
    more = "" if same else ", with scales that were searched again"
    return (
        f"This page's {gain:+.4f} nats and Evaluate's {other.delta_nll:+.4f} nats differ because they are measured "
        f"{apart}{more}: here on {here}; there on {there}"
    )
