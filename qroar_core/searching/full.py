"""The full objective: length-weighted NLL of development text under the real quantized model.

One forward pass over the text per candidate, so it only moves the bands of the whole model
together: a candidate multiplies a base (the cached result, or identity) by one factor per band.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qroar_core.maths.bands import Bands
from qroar_core.maths.rescale import Scales
from qroar_core.models.calibrate import calibrated
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.measure import measure
from qroar_core.models.stream import Condition
from qroar_core.searching.cached import Report
from qroar_core.searching.methods import clamp, grid_of, make_sampler
from qroar_core.specs import QuantSpec, RopeSpec, SearchSpec


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
    passes: int = 0
    known: dict[bytes, float] = field(default_factory=dict)

    def value(self, log2_g: Tensor) -> float:
        """NLL of these scales; remembered, since sweeps come back to the same point."""
        key = log2_g.numpy().tobytes()
        if key not in self.known:
            scales = Scales(self.spec.mode, self.spec.granularity, self.bands, log2_g.double().exp2())
            total = weight = 0.0
            for length in self.lengths:
                here = self.ids[:, -length:]
                condition = calibrated(self.loaded, Condition(self.rope, self.quant, scales), here[:1])
                total += length * float(measure(self.loaded, condition, here, length - 1).nll.double().mean())
                weight += length
            self.passes += 1
            self.known[key] = total / weight
        return self.known[key]


def full_search(objective: FullObjective, base: Tensor, bounds: Tensor, spec: SearchSpec, report: Report) -> Tensor:
    """Coordinate descent (or Optuna) over one factor per band; identity and base are tried first."""
    identity = torch.zeros_like(base)
    best, value = identity, objective.value(identity)
    report(0, "identity", value)
    if not torch.equal(base, identity) and (reached := objective.value(base)) < value:
        best, value = base, reached
        report(0, "cached result", value)
    kept = [best]  # the sweep moves on from the best so far
    for step, (moved, label) in enumerate(_candidates(kept, bounds, spec, objective), start=1):
        reached = objective.value(moved)
        report(step, label, reached)
        if reached < value:
            kept[0], value = moved, reached
        if step >= spec.trials:
            break
    return kept[0]


def _candidates(kept: list[Tensor], bounds: Tensor, spec: SearchSpec,
                objective: FullObjective) -> Iterable[tuple[Tensor, str]]:  # fmt: skip
    if spec.method == "optuna":
        yield from _proposed(kept[0], bounds, spec, objective)
        return
    for sweep in range(spec.sweeps):
        for band in range(kept[0].shape[-1]):
            for shift in grid_of(bounds, band, spec.grid_points):
                moved = kept[0].clone()
                moved[:, :, band] += shift[:, None].to(moved)
                yield clamp(moved, bounds), f"sweep {sweep + 1}, band {band}, {float(shift.mean()):+.2f} octaves"


def _proposed(
    start: Tensor, bounds: Tensor, spec: SearchSpec, objective: FullObjective
) -> Iterable[tuple[Tensor, str]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=make_sampler(spec, bounds), direction="minimize")
    low, high = bounds[..., 0].amin(0), bounds[..., 1].amax(0)
    space: dict[str, Any] = {
        f"band {b}": optuna.distributions.FloatDistribution(float(low[b]), float(high[b])) for b in range(len(low))
    }
    study.enqueue_trial(dict.fromkeys(space, 0.0))
    for number in range(spec.trials):
        trial = study.ask(space)
        shift = torch.tensor([trial.params[name] for name in space])
        moved = clamp(start + shift.to(start), bounds)
        yield moved, f"trial {number}"
        study.tell(trial, objective.value(moved))
