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
from qroar_core.maths.bands import Bands
from qroar_core.maths.rescale import Scales
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.measure import measure
from qroar_core.models.opening import starts
from qroar_core.models.stream import Condition
from qroar_core.results.search import Candidate
from qroar_core.searching.cached import Report
from qroar_core.searching.descent import clamp
from qroar_core.searching.keeping import Keeping
from qroar_core.searching.proposals import Proposals, Tries, grid_of, in_turn
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec


@dataclass(slots=True, eq=False)
class FullObjective(Keeping):
    """Mean NLL at each length, weighted by the length; nats per token. The search keeps the best it has seen."""

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
    tries: Tries = in_turn

    def tell(self, log2_g: Tensor, reached: float) -> None:
        """Remember a value that was measured elsewhere."""
        self.known.setdefault(log2_g.numpy().tobytes(), reached)

    def value(self, log2_g: Tensor) -> float:
        """NLL of these scales; remembered, since sweeps come back to the same point."""
        key = log2_g.numpy().tobytes()
        if key not in self.known:
            scales = Scales(self.spec.mode, self.spec.granularity, self.bands, log2_g.double().exp2())
            try:
                self.known[key] = self._measured(scales)
            except NonFinite:
                if scales.is_identity:
                    raise
                self.known[key] = math.inf  # scales that overflow are never the best
            self.passes += 1
        return self.known[key]

    def _measured(self, scales: Scales) -> float:
        total = 0.0
        for length in self.lengths:
            here = starts(self.ids, length, self.opening)
            condition = calibrated(self.loaded, Condition(self.rope, self.quant, scales), here[:1])
            total += length * float(measure(self.loaded, condition, here, length - 1).nll.double().mean())
        return total / sum(self.lengths)


def full_search(objective: FullObjective, base: Tensor, bounds: Tensor, spec: SearchSpec, report: Report,
                past: Sequence[Candidate] = ()) -> Tensor:  # fmt: skip
    """Coordinate descent (or Optuna) over one factor per band; identity and base are tried first.

    `past` is the history of a full search this one continues, and `base` what that had found.
    """
    objective.begin(base, report, past)
    told = [c.objective for c in past if c.step > 0]
    for step, (moved, label) in enumerate(_candidates(objective, bounds, spec, told), start=len(told) + 1):
        if step > spec.trials:
            break
        report(step, label, objective.offer(moved), objective.value(objective.best))
    return objective.best


def _candidates(objective: FullObjective, bounds: Tensor, spec: SearchSpec,
                told: list[float]) -> Iterable[tuple[Tensor, str]]:  # fmt: skip
    if spec.method == "optuna":
        yield from _proposed(objective.best, bounds, spec, objective, told)
        return
    number = 0
    for sweep in range(spec.sweeps):
        for band in range(objective.best.shape[-1]):
            for shift in grid_of(bounds, band, spec.grid_points):
                number += 1
                if number <= len(told):
                    continue
                moved = objective.best.clone()  # the sweep moves on from the best so far, never from a worse candidate
                moved[:, :, band] += shift[:, None].to(moved)
                yield clamp(moved, bounds), f"sweep {sweep + 1}, band {band}, {float(shift.mean()):+.2f} octaves"


def _proposed(start: Tensor, bounds: Tensor, spec: SearchSpec, objective: FullObjective,
              told: list[float]) -> Iterable[tuple[Tensor, str]]:  # fmt: skip
    def moved(point: list[float]) -> Tensor:
        return clamp(start + torch.tensor(point).to(start), bounds)

    def evaluate(point: list[float]) -> tuple[float, list[float]]:
        reached = objective.value(moved(point))
        return reached, [reached]

    for tried in objective.tries(Proposals.within(bounds, spec), evaluate, told):
        objective.tell(moved(tried.point), tried.value)
        if tried.number >= len(told):
            yield moved(tried.point), f"trial {tried.number}"
