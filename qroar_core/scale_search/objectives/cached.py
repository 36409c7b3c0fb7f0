"""The error of attention on text captured once: no forward pass a candidate. `scale_search/cached.py` computes it."""

from __future__ import annotations

from qroar_core.errors import BadSpec
from qroar_core.scale_search.objective import Objective
from qroar_core.scale_search.problem import SearchProblem


def _require_seen(problem: SearchProblem) -> None:
    if problem.weights_only and not problem.spec.value_maps:
        raise BadSpec(
            "the cached objective sees q, k and v, not quantized weights", where="search", do="add --objective full"
        )


OBJECTIVE = Objective(
    "cached attention (fast)",
    10,
    _require_seen,
    what="the attention error metric on q rows, k and v that are captured once; no candidate needs a forward pass",
)
