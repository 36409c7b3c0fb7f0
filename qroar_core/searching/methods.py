"""Three ways down the cached objective. Each starts from identity and never ends above it.

`gradient`: Adam on log2 g through straight-through rounding, a few rows of one window a step.
`coordinate`: band by band over a logarithmic grid that contains 1.
`optuna`: one scale per band for all heads, proposed by a sampler; every head keeps the best it has seen. Where the
candidates are evaluated, here or in several processes, is `Descent.tries`' business.

All keep what they find in a `Descent`, so that a cancelled search still has its best, and a continued
one goes on at the candidate where it stopped: coordinate and optuna exactly as if it had never stopped,
gradient too while its optimizer's state is in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.maths.rescale import pooled
from qroar_core.searching.descent import AdamState, Descent
from qroar_core.searching.proposals import Proposals, grid_of

LEARNING_RATE = 0.16  # octaves per step at the start, falling linearly to zero
ROWS_A_STEP = 32  # of the captured rows, drawn anew each step
AVERAGED = 3  # the result is the mean of the last steps // AVERAGED iterates


def begin(run: Descent, starts: dict[str, Tensor]) -> None:
    """Offer every start, and what a search this one continues had found."""
    for name, x in starts.items():
        error = run.offer(x)
        if not run.tried(name):
            run.report(0, name, float(error.mean()), run.value)
    if run.before is not None:
        run.offer(run.before)


def gradient(run: Descent, starts: dict[str, Tensor]) -> None:
    """Best start per head, then Adam, then the best per head of all exact candidates and the averaged result."""
    begin(run, starts)
    spec, objective = run.spec, run.objective
    done = run.tried("gradient step")
    at = run.state = run.state or AdamState.at(run.best)
    generator = torch.Generator().manual_seed(spec.seed)
    tail = max(1, spec.steps // AVERAGED)
    count = len(objective.capture.windows)
    n_rows = len(objective.capture.windows[0][0].rows)
    for step in range(spec.steps):
        pick = torch.randperm(n_rows, generator=generator)[:ROWS_A_STEP].sort().values
        if step < done:  # only drawn, so that a continued search sees the rows it would have seen
            continue
        slope, value = objective.gradient(at.x, step % count, pick)
        at.x = run.clamp(at.step(slope, step, LEARNING_RATE * (1 - step / spec.steps)))
        if step >= spec.steps - tail:
            at.average()
        run.report(step + 1, f"gradient step {step + 1}", value)
    run.offer(at.mean)
    if not run.tried("gradient result"):
        run.report(spec.steps + 1, "gradient result", run.value, run.value)


def coordinate(run: Descent, starts: dict[str, Tensor]) -> None:
    """Sweep the bands; at each, every unit takes the grid point with the least error of its own."""
    begin(run, {"identity": starts["identity"]})
    done, trial = run.tried("sweep"), 0
    for sweep in range(run.spec.sweeps):
        for band in range(run.best.shape[-1]):
            for point in grid_of(run.bounds, band, run.spec.grid_points):  # (layers,) each
                trial += 1
                if trial <= done:
                    continue
                moved = run.best.clone()
                moved[:, :, band] = point[:, None].to(moved)
                error = run.offer(pooled(moved, run.spec.granularity))
                label = f"sweep {sweep + 1}, band {band}, {float(point.mean()):+.2f} octaves"
                run.report(trial, label, float(error.mean()), run.value)
    if not run.tried("best of every unit"):
        run.report(trial + 1, "best of every unit", run.value, run.value)


def optuna_search(run: Descent, starts: dict[str, Tensor]) -> None:
    """TPE (or random, or grid) over one log2 g per band; identity and every start are tried first."""
    begin(run, starts)
    known = [c.objective for c in run.past if c.label.startswith("trial")]

    def moved(point: list[float]) -> Tensor:
        return run.clamp(torch.tensor(point).expand_as(run.best).clone())

    def evaluate(point: list[float]) -> tuple[float, list[float]]:
        error = run.objective.per_head(moved(point))
        return float(error.mean()), error.flatten().tolist()

    for tried in run.tries(Proposals.within(run.bounds, run.spec), evaluate, known):
        run.take(moved(tried.point), torch.tensor(tried.errors).view(run.best.shape[:2]))
        if tried.number >= len(known):
            run.report(tried.number + 1, f"trial {tried.number}", tried.value, run.value)
    if not run.tried("best of every unit"):
        run.report(run.spec.trials + 1, "best of every unit", run.value, run.value)


METHODS = {"gradient": gradient, "coordinate": coordinate, "optuna": optuna_search}
