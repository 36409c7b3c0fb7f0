"""Proposals of interpolations: Optuna's TPE over the space, which is given the known ones first.

Proposals are a function of the seed and of what was told, in its order. One seed gives the studies of both conditions
the same first draws, so that they differ by what they were told alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from qroar_core.interpolations.base import Range
from qroar_core.rope_search.space import Candidate

DRAWN = 12  # candidates, the known ones among them, before TPE learns from them
METHOD, STILL = "method", "pairs that stand still"


@dataclass(slots=True, eq=False)
class Proposals:
    """Candidates of a space, one after the other.

    Args:
        ranges: by method. most_still: by method, 0 where no pair may.
    """

    ranges: Mapping[str, tuple[Range, ...]]
    most_still: Mapping[str, int]
    seed: int
    _study: optuna.Study = field(init=False)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=DRAWN)
        self._study = optuna.create_study(sampler=sampler, direction="minimize")

    def add(self, candidate: Candidate, value: float) -> None:
        """Learn what a candidate is worth that was not asked for; smaller is better."""
        space = self._space(candidate.method)
        numbers = {self._named(candidate.method, name): value for name, value in candidate.numbers.items()}
        given = {METHOD: candidate.method, **numbers, STILL: candidate.still}
        self._study.add_trial(
            optuna.trial.create_trial(
                params={name: given[name] for name in space},
                distributions=space,
                value=value if math.isfinite(value) else None,
                state=TrialState.COMPLETE if math.isfinite(value) else TrialState.FAIL,
            )
        )

    def ask(self) -> tuple[int, Candidate]:
        """The next candidate, and the number to `tell` its value by."""
        trial = self._study.ask()
        method = trial.suggest_categorical(METHOD, list(self.ranges))
        numbers = {
            one.name: trial.suggest_float(self._named(method, one.name), one.low, one.high, log=one.log)
            for one in self.ranges[method]
        }
        most = self.most_still[method]
        return trial.number, Candidate(method, numbers, trial.suggest_int(STILL, 0, most) if most else 0)

    def tell(self, number: int, value: float) -> None:
        """What the candidate of this number is worth."""
        if math.isfinite(value):
            self._study.tell(number, value)
        else:
            self._study.tell(number, state=TrialState.FAIL)

    def _space(self, method: str) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = {METHOD: CategoricalDistribution(list(self.ranges))}
        for one in self.ranges[method]:
            space[self._named(method, one.name)] = FloatDistribution(one.low, one.high, log=one.log)
        if self.most_still[method]:
            space[STILL] = IntDistribution(0, self.most_still[method])
        return space

    @staticmethod
    def _named(method: str, number: str) -> str:
        return f"{method} {number}"
