"""The full objective: length-weighted NLL of development text under the real quantized model.

One forward pass over the text per candidate, so it only moves the bands of the whole model
together: a candidate multiplies a base (the cached result, or identity) by one factor per band.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.errors import NonFinite
from qroar_core.interpolations.bands import Bands
from qroar_core.models.bos import starts
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import Condition
from qroar_core.models.window_losses import measure
from qroar_core.scale_search.best_candidate import BestCandidate
from qroar_core.scale_search.cached import Report
from qroar_core.scale_search.objective import Objective
from qroar_core.scale_search.optuna_candidates import ScaleProposals, TrialRunner, grid_of, sequential, swept
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result import HistoryPoint
from qroar_core.scale_search.search_methods import search_methods
from qroar_core.scale_search.state import AdamState, clamp
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec
from qroar_core.transforms.scales import Scales


@dataclass(slots=True, eq=False)
class FullObjective:
    """Mean NLL at each length, weighted by the length; nats per token."""

    loaded: LoadedModel
    rope: RopeSpec
    quant: QuantSpec
    spec: SearchSpec
    bands: Bands
    ids: Tensor  # (windows, length)
    lengths: tuple[int, ...]
    opening: int = 0  # tokens that stand before the text of every window
    passes: int = 0
    known: dict[bytes, float] = field(default_factory=dict)

    def tell(self, point: Tensor, reached: float) -> None:
        """Remember a value that was measured elsewhere."""
        self.known.setdefault(point.numpy().tobytes(), reached)

    def value(self, point: Tensor) -> float:
        """NLL of these scales; remembered, since sweeps come back to the same point."""
        key = point.numpy().tobytes()
        if key not in self.known:
            scales = Scales(self.spec.mode, self.spec.granularity, self.bands, point.double().exp2())
            try:
                self.known[key] = self.measured(scales)
            except NonFinite:
                if scales.is_identity:
                    raise
                self.known[key] = math.inf  # scales that overflow are never the best
            self.passes += 1
        return self.known[key]

    def measured(self, scales: Scales) -> float:
        """One look at the text under these scales."""
        total = 0.0
        for length in self.lengths:
            here = starts(self.ids, length, self.opening)
            condition = calibrated(self.loaded, Condition(self.rope, self.quant, scales), here[:1])
            total += length * float(measure(self.loaded, condition, here, length - 1).nll.double().mean())
        return total / sum(self.lengths)


@dataclass(slots=True, eq=False)
class FullSearch(BestCandidate):
    """Coordinate descent over one factor per band, or Optuna for a method whose candidates are independent."""

    objective: FullObjective
    bounds: Tensor  # (layers, bands, 2)
    report: Report
    tries: TrialRunner = sequential

    def value(self, point: Tensor) -> float:
        """The objective of any scales."""
        return self.objective.value(point)

    def run(self, base: Tensor, past: Sequence[HistoryPoint] = ()) -> Tensor:
        """Identity and `base` are tried first. `past`: of a search this one continues; `base` is what it had found."""
        self.begin(base, self.report, past)
        told = [c.objective for c in past if c.step > 0]
        for step, (moved, label) in enumerate(self._candidates(told), start=len(told) + 1):
            if step > self.objective.spec.trials:
                break
            self.report(step, label, self.offer(moved), self.value(self.best))
        return self.best

    def settled(self) -> None:
        """Every candidate is exact; there is no state to keep."""

    def count(self) -> int:
        """As many as were asked for, or as sweeps over the grid have."""
        spec = self.objective.spec
        return spec.trials if self._independent else min(spec.trials, swept(spec, len(self.objective.bands)))

    @property
    def _independent(self) -> bool:
        return search_methods()[self.objective.spec.method].independent

    def _candidates(self, told: list[float]) -> Iterable[tuple[Tensor, str]]:
        spec = self.objective.spec
        if self._independent:
            yield from self._proposed(self.best, told)
            return
        number = 0
        for sweep in range(spec.sweeps):
            for band in range(self.best.shape[-1]):
                for shift in grid_of(self.bounds, band, spec.grid_points):
                    number += 1
                    if number <= len(told):
                        continue
                    moved = self.best.clone()  # the sweep moves on from the best so far, never from a worse candidate
                    moved[:, :, band] += shift[:, None].to(moved)
                    label = f"sweep {sweep + 1}, band {band}, {float(shift.mean()):+.2f} octaves"
                    yield clamp(moved, self.bounds), label

    def _proposed(self, start: Tensor, told: list[float]) -> Iterable[tuple[Tensor, str]]:
        def moved(point: list[float]) -> Tensor:
            return clamp(start + torch.tensor(point).to(start), self.bounds)

        def evaluate(point: list[float]) -> tuple[float, list[float]]:
            reached = self.value(moved(point))
            return reached, [reached]

        for tried in self.tries(ScaleProposals.within(self.bounds, self.objective.spec), evaluate, told):
            self.objective.tell(moved(tried.point), tried.value)
            if tried.number >= len(told):
                yield moved(tried.point), f"trial {tried.number}"


def _require_seen(problem: SearchProblem) -> None:
    """It measures the real quantized model, and so sees everything."""


def _refine(
    problem: SearchProblem, bounds: Tensor, report: Report, state: AdamState | None, tries: TrialRunner
) -> FullSearch:
    read, lengths = problem.development(), (max(2, problem.length // 4), problem.length)
    objective = FullObjective(
        problem.loaded, problem.rope, problem.quant, problem.spec, problem.bands, read.ids, lengths, read.opening
    )
    return FullSearch(objective, bounds, report, tries)


OBJECTIVE = Objective(
    "full NLL (slow)",
    20,
    _require_seen,
    _refine,
    words="on full text",
    reads=("trials", "sweeps", "grid_points"),
    gradient=False,
    reads_development=True,
    what="length-weighted NLL of development text under the real quantized model, a forward pass a candidate; "
    "one factor per band of the whole model",
)
