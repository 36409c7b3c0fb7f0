"""What the search's decision and the evaluation say together: which scales are kept, and why two gains differ."""

from __future__ import annotations

import re

from qroar_core.results.decision import on_held_out
from qroar_core.results.evaluation import Evaluation
from qroar_core.results.search import SearchReport

OLDER = re.compile(r"([+-]\d+\.\d+) nats \[[^\]]*\] on (\d+ held-out windows?)")  # until 2026-11 held-out text decided


def decided_on_held_out(report: SearchReport) -> bool:
    """True of runs of older versions, whose decision read windows of the text that an evaluation reports on."""
    return report.decision is None and OLDER.search(report.reason) is not None


def kept_words(report: SearchReport, evaluation: Evaluation) -> str:
    """Which scales are kept and by which two numbers, one sentence; empty where nothing was tuned."""
    gain, split = evaluation.gain, "held-out" if decided_on_held_out(report) else "development"
    if gain is None:
        return ""
    found, here = report.chosen == "found", f"the evaluation on held-out text shows {'a' if gain.significant else 'no'}"
    if found and gain.significant:
        return f"kept: the scales found, the search's decision on {split} text and {here} significant gain"
    if found:
        return f"kept: identity, the search's decision on {split} text was for the scales, but {here} significant gain"
    if gain.significant:
        return (f"kept: identity, the search's decision on {split} text was against the scales; {here} significant "
                "gain, but held-out text only reports and can only take scales back")  # fmt: skip
    return f"kept: identity, the search's decision on {split} text was against the scales and {here} significant gain"


def why_different(report: SearchReport, evaluation: Evaluation) -> str:
    """Why an evaluation's gain is not that of the search's decision, one sentence; empty where one is missing."""
    gain, there = evaluation.gain, report.decision
    older = OLDER.search(report.reason)
    if gain is None or (there is None and older is None):
        return ""
    here = on_held_out(gain.windows, gain.length, evaluation.targets, evaluation.stride)
    if there is not None:
        number, text, apart = f"{there.gain:+.4f}", there.where, "different documents"
    else:
        assert older is not None
        number, text, apart = older[1], f"{older[2]}, every token but the first scored", "different tokens"
    return (f"Tune's {number} nats and this page's {gain.delta_nll:+.4f} nats for the same scales differ because they "
            f"are measured on {apart}: Tune's on {text}; this page's on {here}.")  # fmt: skip
