"""The few numbers of an evaluation to see first."""

from __future__ import annotations

from typing import NamedTuple

from qroar_core.evaluation.figure import NAMES
from qroar_core.evaluation.gap import FROM_UNTIED, NOT_SIGNIFICANT, tuned_share
from qroar_core.evaluation.result import Evaluation

GAP = "NLL gap recovered"


class Headline(NamedTuple):
    """One number. `beside`: its interval. `muted`: no number to be shown large, for it may be zero."""

    name: str
    value: str
    meaning: str
    beside: str = ""
    muted: bool = False


def headline(evaluation: Evaluation) -> list[Headline]:
    """Perplexities at the longest length, and the share of the gap that the scales recover.

    Where pairs are tied, that share is counted from the model without a tie, whose perplexities stand beside.
    """
    longest = max(row.length for row in evaluation.rows)
    ppl = {(row.model, row.scales): row.ppl for row in evaluation.rows if row.length == longest}
    shown = [
        *(("reference", "untied"), ("quantized", "untied")),
        *(("reference", "identity"), ("quantized", "identity"), ("quantized", "tuned")),
    ]
    numbers = [
        Headline(f"PPL, {NAMES[which][0]}", f"{ppl[which]:.3f}", f"perplexity at {longest} tokens")
        for which in shown
        if which in ppl
    ]
    share = tuned_share(evaluation)
    if share is None:
        return numbers
    meaning = "share of what quantization costs in nats that the scales recover"
    name, beside = GAP, ""
    if share.untied:
        meaning = (
            "share of what quantization costs the model without a tie, in nats, that tie and scales together recover; "
            "what the tie itself costs counts against it, so that it is below 0 where they cost more than they recover"
        )
        name, beside = f"{GAP}, with the tie", f"; {FROM_UNTIED}"
    if not share.significant:
        meaning += "; the interval of the gain includes zero, so that it may be none"
        return [*numbers, Headline(name, NOT_SIGNIFICANT, meaning, share.measured + beside, muted=True)]
    _, _, interval = share.measured.partition(" ")
    return [*numbers, Headline(name, f"{share.mean:.0%}", meaning, (interval + beside).lstrip("; "))]
