"""Adam on the point of the search through straight-through rounding, a few rows of one window a step.

A continued search goes on exactly as if it had never stopped while its optimizer's state is in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.scale_search.search_method import SearchMethod, begin
from qroar_core.scale_search.state import AdamState, SearchState

LEARNING_RATE = 0.16  # octaves per step at the start, falling linearly to zero
ROWS_A_STEP = 32  # of the captured rows, drawn anew each step
AVERAGED = 3  # the result is the mean of the last steps // AVERAGED iterates


def gradient(run: SearchState, starts: dict[str, Tensor]) -> None:
    """Best start per head, then Adam, then the best per head of all exact candidates and the averaged result."""
    begin(run, starts)
    spec, objective = run.spec, run.objective
    done = run.tried("gradient step")
    at = run.state = run.state or AdamState.at(run.best)
    rates = objective.rates(at.x)
    generator = torch.Generator().manual_seed(spec.seed)
    tail = max(1, spec.steps // AVERAGED)
    count = len(objective.capture.windows)
    n_rows = len(objective.capture.windows[0][0].rows)
    for step in range(spec.steps):
        pick = torch.randperm(n_rows, generator=generator)[:ROWS_A_STEP].sort().values
        if step < done:  # only drawn, so that a continued search sees the rows it would have seen
            continue
        slope, value = objective.gradient(at.x, step % count, pick)
        at.x = run.clamp(at.step(slope, step, rates * (LEARNING_RATE * (1 - step / spec.steps))))
        if step >= spec.steps - tail:
            at.average()
        run.report(step + 1, f"gradient step {step + 1}", value)
    run.offer(at.mean)
    if not run.tried("gradient result"):
        run.report(spec.steps + 1, "gradient result", run.value, run.value)


METHOD = SearchMethod(
    10,
    gradient,
    lambda spec, bands: spec.steps,
    ("steps",),
    "Adam through straight-through rounding, from the best start of every head; also for what only gradients search",
    label="gradient step",
    gradient=True,
)
