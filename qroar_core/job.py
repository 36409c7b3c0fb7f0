"""One job: what the manager of jobs knows of it, and what a face may know."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from qroar_core.progress import Step

Found = TypeVar("Found", covariant=True)
State = Literal["queued", "running", "done", "failed", "cancelled"]
KEPT_DETAILS = 4000  # of Step.detail per job; the oldest go first


class JobKey(tuple[Hashable, ...], Generic[Found]):
    """What a job computes, with the type of what it returns: a plain tuple to all who compare, hash or read it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """What a face may know of a job at one moment. Seconds are wall seconds.

    `seconds_left` is of the current pass, whose steps count towards one total. `behind` names the job that runs
    before it, `ahead` counts all that do; `error` is the one line of a failed job, `warning` that of a result that
    could not be written down, `about` what tells two jobs of one label apart, `details` the `Step.detail` values so
    far, oldest first. `ended`: monotonic seconds, 0 from a store.
    """

    key: Hashable
    label: str
    device: str
    state: State
    step: Step | None
    seconds: float
    seconds_left: float | None
    cancelling: bool
    behind: str
    ahead: int
    error: str
    details: tuple[Any, ...]
    warning: str = ""
    ended: float = 0.0
    about: str = ""

    @property
    def active(self) -> bool:
        """True while the job is queued or running."""
        return self.state in ("queued", "running")


@dataclass(slots=True, eq=False)
class Job:
    """A job of the manager; who reads or changes it holds the manager's lock."""

    key: Hashable
    label: str
    device: str
    call: Callable[..., Any] | None
    keep: Callable[[Any, float], Path | None] | None = None
    needs: tuple[JobKey[Any], ...] = ()
    state: State = "queued"
    step: Step | None = None
    details: deque = field(default_factory=lambda: deque(maxlen=KEPT_DETAILS))
    started: float = 0.0
    passed: float = 0.0  # when the current pass began
    first: tuple[float, float] | None = None  # when its first step came, and the share of the pass then done
    ended: float = 0.0
    result: object = None
    error: str = ""
    warning: str = ""
    about: str = ""
    recalled: bool = False  # the result was read from the store
    file: Path | None = None  # where `keep` wrote the result to
    cancel: threading.Event = field(default_factory=threading.Event)
