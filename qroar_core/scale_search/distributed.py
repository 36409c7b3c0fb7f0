"""Whether and how a search's candidates are shared between processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from qroar_core.progress import OnStep
from qroar_core.scale_search.optuna_candidates import TrialRunner, sequential
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.search_objectives import objectives, require_shareable
from qroar_core.scale_search.shared_study import SharedStudy
from qroar_core.specs.written import written


def tries_of(
    storage: Path | None, problem: SearchProblem, bounds: Tensor, on_step: OnStep
) -> Callable[[str], TrialRunner]:
    """How each phase of the search evaluates its candidates: in this process, or shared through `storage`.

    Raises:
        BadSpec: a search whose candidates are not known beforehand.
    """
    if storage is None:
        return lambda phase: sequential
    require_shareable(problem.spec)
    return SharedStudy(storage, deciding(problem, bounds), on_step).phase


def deciding(problem: SearchProblem, bounds: Tensor) -> dict[str, Any]:
    """Everything that decides a shared search's numbers, by the name a person would look for."""
    import optuna

    quant = {name: part for name, part in asdict(problem.quant).items() if name != "name"}
    texts = {"calibration": problem.calibration().ids}
    if objectives()[problem.spec.objective].reads_development:
        texts["development"] = problem.development().ids
    return {
        "model": problem.loaded.checksum,
        "dtype": str(problem.loaded.dtype),
        "rope": written(problem.rope),
        "quantizer": quant,
        "text": {split: hashlib.sha256(ids.numpy().tobytes()).hexdigest() for split, ids in texts.items()},
        **{f"search option ({name})": value for name, value in asdict(problem.spec).items() if name != "fewer"},
        "diagnosis": bounds.tolist(),
        "version of Optuna": optuna.__version__ if problem.spec.sampler == "tpe" else "",
    }
