"""What a generated answer counts as, so that a zero is a zero of the model and not of the token budget."""

from __future__ import annotations

import re

from qroar_core.retrieval.result import Outcome


def outcome_of(said: str, answer: str, ended: bool) -> Outcome:
    """The first number in `said` decides.

    "hit": it is the answer. "cut off": the budget ended inside a number that begins like the answer. "no number":
    the budget ended before any number. "wrong": another number, or the model ended its text without one.

    Args:
        ended: the model ended its text by itself, inside the budget.
    """
    number = re.search(r"\d+", said)
    if number is None:
        return "wrong" if ended else "no number"
    if number[0] == answer:
        return "hit"
    unfinished = number.end() == len(said) and not ended
    return "cut off" if unfinished and answer.startswith(number[0]) else "wrong"
