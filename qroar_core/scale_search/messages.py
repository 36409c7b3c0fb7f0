"""What a search says of itself: how far it has come, and why it left everything alone."""

from __future__ import annotations

from torch import Tensor

from qroar_core.scale_search.objective import Refinement
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.result import SearchReport
from qroar_core.scale_search.search_methods import search_methods
from qroar_core.specs import SearchSpec
from qroar_core.statistics.intervals import NO_GAIN


def untouched(problem: SearchProblem, bounds: Tensor) -> SearchReport:
    """The report where scales cannot act: nothing was searched."""
    return SearchReport(
        verdict=problem.verdict,
        method="none",
        objective="none",
        objective_identity=1.0,
        objective_found=1.0,
        history=[],
        bounds=bounds.tolist(),
        trials=0,
        seconds=0.0,
        forward_seconds=0.0,
        forward_equivalents=0.0,
        guard="not needed",
        text="none read",
        chosen="identity",
        reason=f"{NO_GAIN}, scales cannot act here",
    )


def total(spec: SearchSpec, bands: int, part: Refinement | None) -> int:
    """Candidates of the part that is under way; `part` is the one through the whole model, once it has begun."""
    return search_methods()[spec.method].count(spec, bands) if part is None else part.count()
