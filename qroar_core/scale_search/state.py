"""What a descent has found by now, whichever way it goes: kept when it is cancelled, taken up when it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.scale_search.cached import CachedObjective, Report, choose
from qroar_core.scale_search.optuna_candidates import TrialRunner, sequential
from qroar_core.scale_search.result import HistoryPoint
from qroar_core.specs import SearchSpec

BETAS, EPS = (0.9, 0.95), 1e-8  # Adam's
CHEAP = 1.0  # seconds an exact evaluation may take to be worth the wait of someone who has clicked Cancel


@dataclass(slots=True, eq=False)
class AdamState:
    """Where the gradient method stands: the iterate, Adam's two moments, and the sum of the iterates to average."""

    x: Tensor
    first: Tensor
    second: Tensor
    total: Tensor
    averaged: int = 0

    @classmethod
    def at(cls, x: Tensor) -> AdamState:
        """At the start, nothing seen yet."""
        return cls(x, torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x))

    def step(self, slope: Tensor, number: int, rate: float | Tensor) -> Tensor:
        """Take in a slope, the `number`-th from 0; returns the iterate Adam goes to, not clamped. Source: 1412.6980."""
        self.first = BETAS[0] * self.first + (1 - BETAS[0]) * slope
        self.second = BETAS[1] * self.second + (1 - BETAS[1]) * slope.square()
        first, second = (m / (1 - b ** (number + 1)) for m, b in zip((self.first, self.second), BETAS, strict=True))
        return self.x - rate * first / (second.sqrt() + EPS)

    def average(self) -> None:
        """Take the iterate into the average."""
        self.total, self.averaged = self.total + self.x, self.averaged + 1

    @property
    def mean(self) -> Tensor:
        """The averaged iterate, or the last one while none is averaged."""
        return self.total / self.averaged if self.averaged else self.x


@dataclass(slots=True, eq=False)
class SearchState:
    """One way down the cached objective.

    `best` is, for every unit that shares a scale, the exact candidate with its least error; `error` is that
    mixture's, (layers, kv). `past` and `before` are the history and scales of the search this one continues.
    """

    objective: CachedObjective
    bounds: Tensor  # (layers, bands, 2)
    spec: SearchSpec
    report: Report
    past: Sequence[HistoryPoint] = ()
    before: Tensor | None = None
    state: AdamState | None = None
    tries: TrialRunner = sequential
    seconds: float = 0.0  # of the last exact evaluation
    _best: Tensor | None = None
    _error: Tensor | None = None

    @property
    def started(self) -> bool:
        """True once an exact candidate is known."""
        return self._best is not None

    @property
    def best(self) -> Tensor:
        """The best point, (layers, kv, bands [+ pairs])."""
        assert self._best is not None  # every method offers identity first
        return self._best

    @property
    def value(self) -> float:
        """The exact objective of `best`."""
        assert self._error is not None
        return float(self._error.mean())

    def clamp(self, point: Tensor) -> Tensor:
        """Into the bounds."""
        return clamp(point, self.bounds)

    def offer(self, point: Tensor) -> Tensor:
        """Evaluate a candidate, clamped, exactly and keep it wherever it is better; returns its error per head."""
        point, started = self.clamp(point), time.perf_counter()
        error = self.objective.per_head(point)
        self.seconds = time.perf_counter() - started
        self.take(point, error)
        return error

    def take(self, point: Tensor, error: Tensor) -> None:
        """Keep a candidate inside the bounds wherever its error per head, (layers, kv), is less."""
        if self._best is None or self._error is None:
            self._best, self._error = point, error
        else:  # the earlier one wins ties: identity unless something is better
            kept = choose([self._best, point], [self._error, error], self.objective.unit)
            self._best, self._error = kept

    def tried(self, label: str) -> int:
        """How many candidates of this label's beginning the continued search had tried."""
        return sum(c.label.startswith(label) for c in self.past)

    def settle(self) -> None:
        """On cancel: the inexact iterate counts only once evaluated, and only where that is quick."""
        if self.state is not None and self.seconds < CHEAP:
            self.offer(self.state.mean)


def clamp(point: Tensor, bounds: Tensor) -> Tensor:
    """Into [low, high] of every layer and band; bounds (layers, bands, 2)."""
    return point.clamp(bounds[:, None, :, 0].to(point), bounds[:, None, :, 1].to(point))
