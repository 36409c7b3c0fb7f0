"""What the optuna method tries: candidates that are a function of the seed, their number and what came before.

Nothing depends on who asks or in which order, so one process and many try the same candidates. Random and grid points
depend on the number alone. TPE learns from the history: it proposes in generations of a fixed size, each from the
finished generations before it, so that a generation's candidates can be evaluated at the same time.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from qroar_core.specs import SearchSpec

if TYPE_CHECKING:
    from torch import Tensor

GENERATION = 4  # candidates TPE proposes from the same history, however many processes there are


@dataclass(frozen=True, slots=True)
class TriedCandidate:
    """One evaluated candidate: log2 g per band, its objective, and the errors that the objective is the mean of."""

    number: int
    point: list[float]
    value: float
    errors: list[float]


Evaluate = Callable[[list[float]], tuple[float, list[float]]]  # log2 g per band -> objective, its parts


@dataclass(slots=True)
class ScaleProposals:
    """`spec.trials` candidates inside the widest bounds of any layer; the first is identity."""

    spec: SearchSpec
    low: list[float]
    high: list[float]
    grid: list[list[float]]  # log2 g of each band that a grid offers, 0 first
    _past: list[list[float]] = field(default_factory=list)

    @classmethod
    def within(cls, bounds: Tensor, spec: SearchSpec) -> ScaleProposals:
        """Candidates for bounds (layers, bands, 2)."""
        grid = [[0.0, *(float(p.mean()) for p in grid_of(bounds, b, spec.grid_points))] for b in range(bounds.shape[1])]
        return cls(spec, bounds[..., 0].amin(0).tolist(), bounds[..., 1].amax(0).tolist(), grid)

    @property
    def count(self) -> int:
        """How many candidates there are."""
        return self.spec.trials

    def needs(self, number: int) -> int:
        """How many of the first candidates must have a value before this one can be proposed."""
        return number // GENERATION * GENERATION if self.spec.sampler == "tpe" else 0

    def point(self, number: int, told: Sequence[float]) -> list[float]:
        """log2 g per band of a candidate.

        Args:
            told: values of the candidates 0, 1, ..., at least `needs(number)` of them.
        """
        if number == 0:
            return [0.0] * len(self.low)
        draw = random.Random(f"{self.spec.seed}/{number}")  # seeded by all characters, alike on every machine
        if self.spec.sampler == "random":
            return [draw.uniform(low, high) for low, high in zip(self.low, self.high, strict=True)]
        if self.spec.sampler == "grid":
            if math.prod(map(len, self.grid)) <= self.count:  # every point once, and then again from the first
                every = list(product(*self.grid))
                return list(every[number % len(every)])
            return [draw.choice(points) for points in self.grid]
        return self._tpe(number, told)

    def _tpe(self, number: int, told: Sequence[float]) -> list[float]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        needs = self.needs(number)
        for earlier in range(len(self._past), needs):
            self._past.append(self.point(earlier, told))
        space: dict[str, optuna.distributions.BaseDistribution] = {
            f"band {b}": optuna.distributions.FloatDistribution(low, high)
            for b, (low, high) in enumerate(zip(self.low, self.high, strict=True))
        }
        seed = hashlib.sha256(f"{self.spec.seed}/{number}".encode()).digest()[:4]
        sampler = optuna.samplers.TPESampler(seed=int.from_bytes(seed))
        study = optuna.create_study(sampler=sampler, direction="minimize")
        study.add_trials(
            [
                optuna.trial.create_trial(params=dict(zip(space, point, strict=True)), distributions=space, value=value)
                for point, value in zip(self._past[:needs], told, strict=False)
            ]
        )
        return list(study.ask(space).params.values())


def swept(spec: SearchSpec, bands: int) -> int:
    """Points that sweeps over the grid of every band try."""
    return spec.sweeps * bands * 2 * (spec.grid_points // 2)


def grid_of(bounds: Tensor, band: int, points: int) -> list[Tensor]:
    """log2 g of one band: from low to 0 and from 0 to high, evenly in octaves, 0 left out (it is the start)."""
    half = points // 2
    low, high = bounds[:, band, 0], bounds[:, band, 1]
    down = [low * (i + 1) / half for i in range(half)]
    return down + [high * (i + 1) / half for i in range(half)]


def sequential(proposals: ScaleProposals, evaluate: Evaluate, told: Sequence[float] = ()) -> Iterator[TriedCandidate]:
    """One after the other in this process; `told` are the values of those tried before."""
    values = list(told)
    for number in range(len(values), proposals.count):
        point = proposals.point(number, values)
        value, errors = evaluate(point)
        values.append(value)
        yield TriedCandidate(number, point, value, errors)


TrialRunner = Callable[[ScaleProposals, Evaluate, Sequence[float]], Iterator[TriedCandidate]]
