"""What both searches through the whole model share: the best exact candidate, and identity tried first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.scale_search.cached import Report
from qroar_core.scale_search.result import HistoryPoint


@dataclass(slots=True, eq=False)
class BestCandidate:
    """Keeps the best of all candidates it is offered; the earlier one wins ties."""

    _best: Tensor | None = field(default=None, init=False)

    @property
    def started(self) -> bool:
        """True once a candidate is known."""
        return self._best is not None

    @property
    def best(self) -> Tensor:
        """The best candidate's point, (layers, kv, bands [+ pairs])."""
        assert self._best is not None  # identity is offered first
        return self._best

    def value(self, point: Tensor) -> float:
        """The objective of any scales; cheap when asked again."""
        raise NotImplementedError

    def offer(self, point: Tensor) -> float:
        """Evaluate a candidate and keep it if it is the best; returns its value."""
        reached = self.value(point)
        if self._best is None or reached < self.value(self._best):
            self._best = point
        return reached

    def begin(self, base: Tensor, report: Report, past: Sequence[HistoryPoint]) -> None:
        """Offer identity and `base`, both before a chance to cancel; report what `past` has not."""
        starts = {"identity": torch.zeros_like(base)} | ({"cached result": base} if base.any() else {})
        reached = {name: self.offer(start) for name, start in starts.items()}
        for name in (n for n in reached if n not in {c.label for c in past}):
            report(0, name, reached[name], min(reached.values()))
