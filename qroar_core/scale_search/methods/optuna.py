"""One scale per band for all heads, proposed by a sampler; every head keeps the best it has seen.

Where the candidates are evaluated, here or in several processes, is `SearchState.tries`' business.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qroar_core.scale_search.optuna_candidates import ScaleProposals
from qroar_core.scale_search.search_method import SearchMethod, begin
from qroar_core.scale_search.state import SearchState


def proposed(run: SearchState, starts: dict[str, Tensor]) -> None:
    """TPE (or random, or grid) over one log2 g per band; identity and every start are tried first."""
    begin(run, starts)
    known = [c.objective for c in run.past if c.label.startswith("trial")]

    def moved(point: list[float]) -> Tensor:
        return run.clamp(torch.tensor(point).expand_as(run.best).clone())

    def evaluate(point: list[float]) -> tuple[float, list[float]]:
        error = run.objective.per_head(moved(point))
        return float(error.mean()), error.flatten().tolist()

    for tried in run.tries(ScaleProposals.within(run.bounds, run.spec), evaluate, known):
        run.take(moved(tried.point), torch.tensor(tried.errors).view(run.best.shape[:2]))
        if tried.number >= len(known):
            run.report(tried.number + 1, f"trial {tried.number}", tried.value, run.value)
    if not run.tried("best of every unit"):
        run.report(run.spec.trials + 1, "best of every unit", run.value, run.value)


METHOD = SearchMethod(
    30,
    proposed,
    lambda spec, bands: spec.trials,
    ("trials",),
    "one scale per band for all heads, proposed by an Optuna sampler (`--sampler`); every head keeps its best",
    label="trial",
    independent=True,
)
