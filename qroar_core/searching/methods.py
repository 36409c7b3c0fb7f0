"""Three ways down the cached objective. Each starts from identity, never ends above it, and returns
log2 g with its objective.

`gradient`: Adam on log2 g through straight-through rounding, a few rows of one window a step.
`coordinate`: band by band over a logarithmic grid that contains 1.
`optuna`: a sampler proposes one scale per band for all heads; every head keeps the best it has seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.maths.rescale import pooled
from qroar_core.searching.cached import CachedObjective, Report, choose
from qroar_core.specs import SearchSpec

LEARNING_RATE = 0.16  # octaves per step at the start, falling linearly to zero
BETAS = (0.9, 0.95)
ROWS_A_STEP = 32  # of the captured rows, drawn anew each step
AVERAGED = 3  # the result is the mean of the last steps // AVERAGED iterates


def clamp(log2_g: Tensor, bounds: Tensor) -> Tensor:
    """Into [low, high] of every layer and band; bounds (layers, bands, 2)."""
    return log2_g.clamp(bounds[:, None, :, 0].to(log2_g), bounds[:, None, :, 1].to(log2_g))


def gradient(objective: CachedObjective, starts: dict[str, Tensor], bounds: Tensor, spec: SearchSpec,
             report: Report) -> tuple[Tensor, float]:  # fmt: skip
    """Best start per head, then Adam, then the best per head of identity, start and result.

    Args:
        starts: named log2_g to begin from; "identity" among them.
    """
    names, options = list(starts), [clamp(x, bounds) for x in starts.values()]
    errors = [objective.per_head(x) for x in options]
    for name, error in zip(names, errors, strict=True):
        report(0, name, float(error.mean()))
    x, _ = choose(options, errors, spec.granularity)
    generator = torch.Generator().manual_seed(spec.seed)
    first, second, mean, kept = (torch.zeros_like(x) for _ in range(4))
    tail = max(1, spec.steps // AVERAGED)
    count = len(objective.capture.windows)
    n_rows = len(objective.capture.windows[0][0].rows)
    for step in range(spec.steps):
        pick = torch.randperm(n_rows, generator=generator)[:ROWS_A_STEP].sort().values
        slope, value = objective.gradient(x, step % count, pick)
        first = BETAS[0] * first + (1 - BETAS[0]) * slope
        second = BETAS[1] * second + (1 - BETAS[1]) * slope.square()
        rate = LEARNING_RATE * (1 - step / spec.steps)
        adam = (first / (1 - BETAS[0] ** (step + 1))) / ((second / (1 - BETAS[1] ** (step + 1))).sqrt() + 1e-8)
        x = clamp(x - rate * adam, bounds)
        if step >= spec.steps - tail:
            kept += x
        report(step + 1, f"gradient step {step + 1}", value, False)
    mean = kept / tail
    options.append(mean)
    errors.append(objective.per_head(mean))
    found, error = choose(options, errors, spec.granularity)
    report(spec.steps + 1, "gradient result", float(error.mean()))
    return found, float(error.mean())


def coordinate(objective: CachedObjective, starts: dict[str, Tensor], bounds: Tensor, spec: SearchSpec,
               report: Report) -> tuple[Tensor, float]:  # fmt: skip
    """Sweep the bands; at each, every unit takes the grid point with the least error of its own."""
    x = clamp(starts["identity"], bounds)
    best = objective.per_head(x)
    report(0, "identity", float(best.mean()))
    trial = 0
    for sweep in range(spec.sweeps):
        for band in range(x.shape[-1]):
            options, errors = [x], [best]
            for point in grid_of(bounds, band, spec.grid_points):  # (layers,) each
                moved = x.clone()
                moved[:, :, band] = point[:, None].to(x)
                moved = pooled(moved, spec.granularity)
                options.append(moved)
                errors.append(objective.per_head(moved))
                trial += 1
            x, best = choose(options, errors, spec.granularity)
            report(trial, f"sweep {sweep + 1}, band {band}", float(best.mean()))
    return x, float(best.mean())


def grid_of(bounds: Tensor, band: int, points: int) -> list[Tensor]:
    """log2 g of one band: from low to 0 and from 0 to high, evenly in octaves, 0 left out (it is the start)."""
    half = points // 2
    low, high = bounds[:, band, 0], bounds[:, band, 1]
    down = [low * (i + 1) / half for i in range(half)]
    return down + [high * (i + 1) / half for i in range(half)]


def optuna_search(objective: CachedObjective, starts: dict[str, Tensor], bounds: Tensor, spec: SearchSpec,
                  report: Report) -> tuple[Tensor, float]:  # fmt: skip
    """TPE (or random, or grid) over one log2 g per band; identity and every start are tried first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = [clamp(x, bounds) for x in starts.values()]
    errors = [objective.per_head(x) for x in options]
    for name, error in zip(starts, errors, strict=True):
        report(0, name, float(error.mean()))
    study = optuna.create_study(sampler=make_sampler(spec, bounds), direction="minimize")
    bands = bounds.shape[1]
    study.enqueue_trial({f"band {b}": 0.0 for b in range(bands)})
    low, high = bounds[..., 0].amin(0), bounds[..., 1].amax(0)
    for number in range(spec.trials):
        trial = study.ask({f"band {b}": optuna.distributions.FloatDistribution(float(low[b]), float(high[b]))
                           for b in range(bands)})  # fmt: skip
        point = torch.tensor([trial.params[f"band {b}"] for b in range(bands)])
        x = clamp(point.expand_as(options[0]).clone(), bounds)
        error = objective.per_head(x)
        study.tell(trial, float(error.mean()))
        options.append(x)
        errors.append(error)
        report(number + 1, f"trial {number}", float(error.mean()))
    found, error = choose(options, errors, spec.granularity)
    report(spec.trials + 1, "best of every unit", float(error.mean()))
    return found, float(error.mean())


def make_sampler(spec: SearchSpec, bounds: Tensor):
    """Optuna's sampler of the spec; the grid has `grid_points` log-spaced points per band."""
    import optuna

    if spec.sampler == "random":
        return optuna.samplers.RandomSampler(seed=spec.seed)
    if spec.sampler == "grid":
        space = {f"band {b}": [0.0, *(float(p.mean()) for p in grid_of(bounds, b, spec.grid_points))]
                 for b in range(bounds.shape[1])}  # fmt: skip
        return optuna.samplers.GridSampler(space, seed=spec.seed)
    return optuna.samplers.TPESampler(seed=spec.seed)


METHODS = {"gradient": gradient, "coordinate": coordinate, "optuna": optuna_search}
