"""The KL objective: scales polished by gradients through the whole quantized model.

KL(reference || quantized) of the next-token predictions, on windows of calibration text, with rounding passed
straight through. It sees what the cached objective cannot: errors of one layer that another undoes or amplifies.
Each step costs a forward and a backward pass over one window, so it starts from the cached result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qroar_core.errors import BadSpec, NonFinite
from qroar_core.interpolations.bands import Bands
from qroar_core.maths.channel_groups import ChannelGroup
from qroar_core.models.condition import Condition
from qroar_core.models.differentiable import Trainable, open_trainable
from qroar_core.models.finite import non_finite
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import parameters_under
from qroar_core.models.score import divergence, kl_gradient
from qroar_core.models.window_losses import hidden_states
from qroar_core.quantizers.exact_keys import still_exact
from qroar_core.scale_search.best_candidate import BestCandidate
from qroar_core.scale_search.cached import Report
from qroar_core.scale_search.objective import Objective
from qroar_core.scale_search.optuna_candidates import TrialRunner
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result import HistoryPoint
from qroar_core.scale_search.state import CHEAP, AdamState, clamp
from qroar_core.specs import SearchSpec
from qroar_core.transforms.scales import pooled

LEARNING_RATE = 0.02  # octaves per step at the start, falling linearly to zero; 0.06 follows single windows
AVERAGED = 4  # the result is the mean of the last steps // AVERAGED iterates


@dataclass(slots=True, eq=False)
class KLObjective:
    """Mean KL to the unquantized model under the same RoPE, nats per token, over all windows."""

    loaded: LoadedModel
    condition: Condition
    spec: SearchSpec
    bands: Bands
    ids: Tensor  # (windows, length)
    groups: tuple[ChannelGroup, ...] = ()  # whose matrices stand in a point
    reference: Tensor = field(init=False)  # final hidden states, (windows, length - 1, hidden_size)
    weights: dict[str, Tensor | None] = field(init=False)
    known: dict[bytes, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reference = hidden_states(self.loaded, Condition(self.condition.rope), self.ids, self.ids.shape[1] - 1)
        self.weights = parameters_under(self.loaded, None, self.condition.quant.weights)

    def value(self, point: Tensor) -> float:
        """Exact, over all windows; remembered."""
        key = point.contiguous().numpy().tobytes()
        if key not in self.known:
            with torch.no_grad(), self._open() as model:
                each = [
                    divergence(self.loaded, self.reference[w, None], model.hidden(ids, point)[None, :-1]).kl.double()
                    for w, ids in enumerate(self.ids)
                ]
            reached = float(torch.stack(each).mean())
            if not math.isfinite(reached) and not bool(point.any()):
                raise self._overflow("the KL to the reference")
            self.known[key] = reached if math.isfinite(reached) else math.inf  # scales that overflow are never the best
        return self.known[key]

    def gradient(self, point: Tensor, window: int) -> tuple[Tensor, float]:
        """d KL / d point on one window, pooled to the granularity, shaped as the point; and the KL there."""
        x = point.clone().requires_grad_(True)
        with torch.enable_grad(), self._open() as model:
            hidden = model.hidden(self.ids[window], x)[:-1]
            slope, kl = kl_gradient(self.loaded, self.reference[window], hidden.detach())
            hidden.backward(slope)
        grad = torch.as_tensor(x.grad)
        if not math.isfinite(kl) or not bool(grad.isfinite().all()):
            raise self._overflow(f"the gradient of the KL on window {window}")
        return pooled(grad, self.spec.granularity), kl

    def _overflow(self, what: str) -> NonFinite:
        return non_finite(what, self.condition, self.loaded.dtype)

    def _open(self) -> AbstractContextManager[Trainable]:
        band = self.loaded.geometry.channel_band(self.bands)
        return open_trainable(
            self.loaded, self.condition, self.ids.shape[1], band, self.spec.mode, self.weights, self.groups
        )


@dataclass(slots=True, eq=False)
class Polish(BestCandidate):
    """One polish: where it stands, and the best exact candidate."""

    objective: KLObjective
    bounds: Tensor  # (layers, bands, 2)
    report: Report
    state: AdamState | None = None
    seconds: float = 0.0  # of the last exact evaluation

    def value(self, point: Tensor) -> float:
        """The objective of any scales."""
        return self.objective.value(point)

    def offer(self, point: Tensor) -> float:
        """As `BestCandidate.offer`, and remember how long it took."""
        began = time.perf_counter()
        reached = BestCandidate.offer(self, point)
        self.seconds = time.perf_counter() - began
        return reached

    def run(self, base: Tensor, past: Sequence[HistoryPoint] = ()) -> Tensor:
        """Adam from the better of identity and `base`; the averaged iterate counts where it is better than both.

        `past` is the history of a polish this one continues.
        """
        self.begin(base, self.report, past)
        spec, at = self.objective.spec, self.state or AdamState.at(self.best)
        self.state, tail = at, max(1, spec.polish_steps // AVERAGED)
        for step in range(sum(c.label.startswith("polish step") for c in past), spec.polish_steps):
            slope, kl = self.objective.gradient(at.x, step % len(self.objective.ids))
            rate = LEARNING_RATE * (1 - step / spec.polish_steps)
            at.x = clamp(at.step(slope, step, rate), self.bounds)
            if step >= spec.polish_steps - tail:
                at.average()
            self.report(step + 1, f"polish step {step + 1}", kl)
        self.report(spec.polish_steps + 1, "polish result", self.offer(at.mean), self.value(self.best))
        return self.best

    def settled(self) -> AdamState | None:
        """On cancel: the iterate counts only once evaluated, and only where that is quick."""
        if self.state is not None and self.seconds < CHEAP:
            self.offer(self.state.mean)
        return self.state

    def count(self) -> int:
        """As many as there are steps."""
        return self.objective.spec.polish_steps


def _require_seen(problem: SearchProblem) -> None:
    weights = problem.quant.weights
    if weights is not None and problem.spec.angles:
        raise BadSpec(
            "the kl objective rounds weights once, and turned rows round apart",
            where="search",
            do="drop --angles, or add --objective cached",
        )
    if problem.weights_only or (weights is not None and weights.scale == "tensor"):
        raise BadSpec(
            "the kl objective has no gradient through the rounding of weights",
            where="search",
            do="add --objective full",
        )


def _refine(
    problem: SearchProblem, bounds: Tensor, report: Report, state: AdamState | None, tries: TrialRunner
) -> Polish:
    spec, quant = problem.spec, problem.quant
    length = min(problem.length, spec.polish_length)
    if quant.k is not None and still_exact(quant, length) == length:
        raise BadSpec(
            f"in {length} tokens every query reads all keys exactly: the kl objective sees no scales",
            where="search",
            do=f"make length and polish_length longer than {quant.k.block_tokens}",
        )
    text = problem.windows("calibration", length, spec.polish_windows, fewer=True)
    objective = KLObjective(problem.loaded, Condition(problem.rope, quant), spec, problem.bands, text, problem.groups)
    return Polish(objective, bounds, report, state)


OBJECTIVE = Objective(
    "KL to the reference, by gradients (slow)",
    30,
    _require_seen,
    _refine,
    words="by gradients of the KL through the whole model",
    reads=("polish_steps",),
    independent=False,
    what="after the cached search, gradients of the KL to the unquantized model through the whole model (64 steps)",
)
