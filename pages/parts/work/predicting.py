"""Queue the measurement of each band alone behind its diagnosis, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.session import manager
from pages.parts.work import diagnosing
from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import diagnose, predict
from qroar_core.errors import BadSpec
from qroar_core.jobs import Manager
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, part
from qroar_core.results.prediction import Prediction
from qroar_core.runs.setting import Setting
from qroar_core.specs import DiagnosisSpec, PredictionSpec

SHARE = 0.1  # of the whole job, for a diagnosis in bands of its own


def key(loaded: LoadedModel, setting: Setting, asked: DiagnosisSpec, spec: PredictionSpec) -> tuple:
    """The diagnosis belongs to it, in the bands asked here."""
    return stage_key("predict", loaded, setting, spec, asked)


def start(loaded: LoadedModel, setting: Setting, asked: DiagnosisSpec, spec: PredictionSpec) -> None:
    """Queue it behind the setting's own diagnosis; one in other bands is no run of its own and made on the way."""
    first = diagnosing.start(loaded, setting) if asked == setting.diagnosis else None
    submit(key(loaded, setting, asked, spec), _predict, loaded, setting, manager(), first, asked, spec,
           label=f"Bands alone with {loaded.name}")  # fmt: skip


def _predict(loaded: LoadedModel, setting: Setting, jobs: Manager, first: tuple | None, asked: DiagnosisSpec,
             spec: PredictionSpec, on_step: OnStep) -> Prediction:  # fmt: skip
    documents, diagnosed, rest = texts(setting), None, on_step
    if first is not None:
        diagnosed = _finished(jobs.result(first))
    else:
        diagnosed = diagnose.run(loaded, setting.rope, setting.quant, asked, documents["calibration"],
                                 on_step=part(on_step, 0, SHARE, 1)).as_written()  # fmt: skip
        rest = part(on_step, SHARE, 1, 1)
    return predict.run(loaded, setting.rope, setting.quant, spec, documents["heldout"], diagnosed, on_step=rest)


def _finished(found: Any) -> Any:
    if found is None:
        raise BadSpec("the diagnosis did not finish", where="predict", do="start it again")
    return found
