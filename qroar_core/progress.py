"""How the core reports: one callback, called at every step, through which it is also cancelled.

A stage takes `on_step: OnStep`. It is called with a `Step` and may raise `Cancelled`; stages hold
no locks and write no files that such a raise would leave half done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from qroar_core.errors import Cancelled

T = TypeVar("T")
CANCEL_POLL_SECONDS = 0.2  # seconds between looks at whether a long call shall be given up


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


def no_progress(step: Step) -> None:
    """The silent `on_step`."""


def cancellable(on_step: OnStep, cancel: threading.Event) -> OnStep:
    """`on_step` that raises `Cancelled` once `cancel` is set."""

    def report(step: Step) -> None:
        if cancel.is_set():
            raise Cancelled(step.stage)
        on_step(step)

    return report


def subprogress(on_step: OnStep, first: float, last: float, total: float) -> OnStep:
    """Map a sub-task's own 0..1 onto [first, last] of a stage with `total` units."""

    def report(step: Step) -> None:
        done = first + (last - first) * step.fraction
        on_step(Step(step.stage, done, total, step.what, step.detail))

    return report


def within(on_step: OnStep, what: str) -> OnStep:
    """Steps of a stage that another stage calls, under the name of what it serves."""
    return lambda step: on_step(Step(step.stage, step.done, step.total, f"{what}: {step.what}"))


def run_cancellable(call: Callable[[], T], on_step: OnStep, step: Step) -> T:
    """`call()`, which reports nothing itself, with `on_step(step)` at every look, so that it can be given up.

    It runs in a thread of its own. When `on_step` raises, the thread is left to end by itself and what it returns
    is dropped: a library that reads gigabytes cannot be stopped halfway, the person who waits for it can.
    """
    ended = threading.Event()
    box: dict[str, Any] = {}

    def work() -> None:
        try:
            box["result"] = call()
        except Exception as fault:  # raised again below, in the thread that asked
            box["fault"] = fault
        finally:
            ended.set()

    on_step(step)
    threading.Thread(target=work, name="qroar-cancellable", daemon=True).start()
    while not ended.wait(CANCEL_POLL_SECONDS):
        on_step(step)
    if "fault" in box:
        raise box["fault"]
    return box["result"]
