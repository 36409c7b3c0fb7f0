"""One question that `verify` asks of an export, and its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Args:
        passed: None where it could not be asked.
        do: what helps where it is False.
    """

    question: str
    answer: str
    passed: bool | None
    do: str = "export it again"
