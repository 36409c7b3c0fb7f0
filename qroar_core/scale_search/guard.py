"""After the search: a model under one setting to measure scales on, and the short-context guard."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from qroar_core.errors import NonFinite
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.stream import Condition
from qroar_core.models.window_losses import measure
from qroar_core.progress import OnStep
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.statistics.intervals import paired_interval
from qroar_core.transforms.scales import Scales


@dataclass(frozen=True, slots=True, eq=False)
class WindowScorer:
    """A model under one setting, for measuring scales on windows."""

    loaded: LoadedModel
    rope: RopeSpec
    quant: QuantSpec
    on_step: OnStep

    def nll(self, ids: Tensor, scales: Scales | None, what: str) -> list[float]:
        """Mean NLL of every window (all tokens but the first), nats per token."""
        condition = calibrated(self.loaded, Condition(self.rope, self.quant, scales), ids[:1])
        return measure(self.loaded, condition, ids, ids.shape[1] - 1, what=what, on_step=self.on_step).per_window


def guarded(scorer: WindowScorer, scales: Scales, short: Tensor, tau: float) -> tuple[Scales | None, str]:
    """Scales that cost at most `tau` nats at short context, halved toward identity until they do.

    Returns the scales, or None when even a quarter of the way costs too much, and a sentence.
    """
    before = scorer.nll(short, None, "guard: identity")
    for share, words in ((1.0, ""), (0.5, "halved toward identity, "), (0.25, "quartered toward identity, ")):
        tried = scales.toward_identity(share)
        try:
            cost = -paired_interval(before, scorer.nll(short, tried, "guard: tuned")).mean
        except NonFinite:
            cost = math.inf
        if cost <= tau:
            return tried, f"{words}costs {cost:+.4f} nats at {short.shape[1]} tokens, allowed {tau}"
    return None, f"costs {cost:+.4f} nats at {short.shape[1]} tokens even quartered, allowed {tau}: rejected"
