"""Which file of a run folder holds the result of a job's key.

Most stages ask what the run's setting says, and have one file each. A comparison, controls, claims, a prediction and a
search of interpolations ask for more: a run holds one file of such a stage for every question, named by the stage and a
digest of the question. A retrieval asks for more too, but a run has one, the last; its file says what was asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation.result import Evaluation
from qroar_core.evidence.controls.result import Controls
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.evidence.replication.result import Replication
from qroar_core.remedies.result import Comparison
from qroar_core.result import Result, rounded
from qroar_core.retrieval.result import Retrieval
from qroar_core.rope_search.result import RopeSearch
from qroar_core.runs.folder import FORMERLY, RETRIEVALS, SEARCHED, SEVERAL, UNTUNED
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.specs import (
    REMEDIES_FORMERLY,
    ComparisonSpec,
    ControlSpec,
    DiagnosisSpec,
    EvaluationSpec,
    PredictionSpec,
    QuantSpec,
    ReplicationSpec,
    RetrievalSpec,
    RopeSearchSpec,
    RopeSpec,
    SearchSpec,
)
from qroar_core.specs.written import written

SPECS = {
    RopeSpec: "rope",
    QuantSpec: "quant",
    DiagnosisSpec: "diagnosis",
    SearchSpec: "search",
    EvaluationSpec: "evaluation",
}
MOST_COMPARISONS = 4096  # pairs of specs that are remembered
FILES_OF_DIAGNOSIS = ("diagnosis.json",)
FILES_OF_SEARCH = (*FILES_OF_DIAGNOSIS, *SEARCHED, "search.json")


@dataclass(frozen=True, slots=True)
class StageOfSeveral:
    """A stage of which a run holds a file a question; see `folder.SEVERAL`."""

    asks: tuple[type, ...]  # beyond the setting, by type; the rest must be the setting's
    result: type[Result]
    earlier: tuple[str, ...] = ()  # files of earlier stages that belong beside it


OF_SEVERAL = {
    "compare": StageOfSeveral((ComparisonSpec,), Comparison),
    "controls": StageOfSeveral((ControlSpec,), Controls, FILES_OF_SEARCH),
    "replicate": StageOfSeveral((ReplicationSpec, tuple), Replication),
    "predict": StageOfSeveral((PredictionSpec, DiagnosisSpec), Prediction, FILES_OF_DIAGNOSIS),
    "tune_rope": StageOfSeveral((RopeSearchSpec,), RopeSearch),
}
MORE: dict[Any, tuple[type, ...]] = {  # what a stage asks beyond the setting, by type; the rest must be the setting's
    "retrieve": (RetrievalSpec,),
    **{name: stage.asks for name, stage in OF_SEVERAL.items()},
}
EARLIER = {  # by kind of file: those of earlier stages that belong beside it
    "diagnosis.json": (),
    "search.json": FILES_OF_DIAGNOSIS,
    UNTUNED: FILES_OF_DIAGNOSIS,
    "evaluation.json": FILES_OF_SEARCH,
    RETRIEVALS[True]: FILES_OF_SEARCH,
    RETRIEVALS[False]: (),
    **{name: stage.earlier for name, stage in OF_SEVERAL.items()},
}
KINDS: dict[str, type[Result]] = {
    "diagnosis.json": Diagnosis,
    "evaluation.json": Evaluation,
    UNTUNED: Evaluation,
    RETRIEVALS[True]: Retrieval,
    RETRIEVALS[False]: Retrieval,
    **{name: stage.result for name, stage in OF_SEVERAL.items()},
}


@dataclass(frozen=True, slots=True)
class Tuned:
    """Which scales a stage measures: the digests of what a search found and of its SmoothAttention baseline.

    A stage behind a search has this in its key, so that scales opened from elsewhere or found by another search under
    the same setting never answer for one another.
    """

    digest: str

    @classmethod
    def of(cls, outcome: SearchOutcome) -> Tuned:
        """The scales of a search's outcome, finished or read from its files."""
        return cls(f"{outcome.found.digest} {outcome.smooth.digest}")


def file_of(key: Hashable) -> str | None:
    """The file that holds the result of `key` in the runs that it `fits`; None when no run has such a stage."""
    if not isinstance(key, tuple) or not key:
        return None
    stage, specs = key[0], key[5:]
    if stage in SEVERAL:
        asked = json.dumps([_plain_list(spec) for spec in specs if isinstance(spec, MORE[stage])])
        return f"{stage}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}.json"
    tuned = any(isinstance(spec, SearchSpec) for spec in specs)
    files = {
        "diagnose": "diagnosis.json",
        "search": "search.json",
        "evaluate": "evaluation.json" if tuned else UNTUNED,
        "retrieve": RETRIEVALS[tuned],
    }
    return files.get(stage)


def fits(key: Hashable, setting: Setting) -> bool:
    """Does a stage's key hold nothing but what the setting says and what the stage asks beyond it?"""
    if not isinstance(key, tuple) or not key:
        return False
    beyond = (Tuned, *MORE.get(key[0], ()))
    said = [spec for spec in key[5:] if spec is not None and not isinstance(spec, beyond)]
    return all(type(spec) in SPECS and _alike(spec, getattr(setting, SPECS[type(spec)])) for spec in said)


def tuned_in(key: Hashable) -> Tuned | None:
    """The scales that a key names, None for a stage without a search before it."""
    return next((part for part in key if isinstance(part, Tuned)), None) if isinstance(key, tuple) else None


def kind_of(name: str) -> str:
    """What a run's file is: its own name, or the stage where a run holds several."""
    stage = name.partition("-")[0]
    return next((now for now, before in FORMERLY.items() if before == stage), stage)


def answers(result: Any, key: Hashable) -> bool:
    """Is this what the key asks? A run folder has one retrieval, of the spec asked last."""
    if not isinstance(result, Retrieval):
        return True
    asked = [spec for spec in key if isinstance(spec, RetrievalSpec)] if isinstance(key, tuple) else []
    return [plain(spec) for spec in asked] == [json.dumps(rounded(result.spec), sort_keys=True)]


def plain(spec: Any) -> str:
    """What a spec decides, as text: floats as in a manifest, without display names and who asked for the windows."""
    return json.dumps(rounded(_deciding(written(spec))), sort_keys=True)


@lru_cache(maxsize=MOST_COMPARISONS)
def _alike(one: Any, other: Any) -> bool:
    """Do two specs decide the same? Every key that a page asks for is compared with every run on disk."""
    return plain(one) == plain(other)


def _deciding(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _deciding(inner) for name, inner in value.items() if name not in ("name", "fewer")}


def _plain_list(asked: Any) -> Any:
    """A spec as its `plain` text, a tuple of them as a list.

    A remedy has its older name there, so that a file which that question named is found.
    """
    if isinstance(asked, tuple):
        return [_plain_list(one) for one in asked]
    said = plain(asked)
    for now, before in {now: before for before, now in REMEDIES_FORMERLY.items()}.items():
        said = said.replace(f'"{now}"', f'"{before}"') if isinstance(asked, ComparisonSpec) else said
    return said
