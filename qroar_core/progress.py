"""How the core reports: one callback, called at every step, through which it is also cancelled.

A stage takes `on_step: OnStep`. It is called with a `Step` and may raise `Cancelled`; stages hold
no locks and write no files that such a raise would leave half done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qroar_core.errors import Cancelled


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a stage: `done` of `total` units, and what is being done now."""

    stage: str
    done: float
    total: float
    what: str = ""
    detail: Any = None  # small, stage-specific: the search puts its best-so-far here

    @property
    def fraction(self) -> float:
        """Share of the stage done, in [0, 1]."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 0.0


OnStep = Callable[[Step], None]


def ignore(step: Step) -> None:
    """The silent `on_step`."""


def cancellable(on_step: OnStep, cancel: threading.Event) -> OnStep:
    """`on_step` that raises `Cancelled` once `cancel` is set."""

    def report(step: Step) -> None:
        if cancel.is_set():
            raise Cancelled(step.stage)
        on_step(step)

    return report


def part(on_step: OnStep, first: float, last: float, total: float) -> OnStep:
    """Map a sub-task's own 0..1 onto [first, last] of a stage with `total` units."""

    def report(step: Step) -> None:
        done = first + (last - first) * step.fraction
        on_step(Step(step.stage, done, total, step.what, step.detail))

    return report
