"""Queue the measurement of each band alone behind its diagnosis, and find it again."""

from __future__ import annotations

from pages.parts.work import diagnosing
from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import diagnose, predict
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, part
from qroar_core.results import Diagnosis
from qroar_core.results.prediction import Prediction
from qroar_core.runs.setting import Setting
from qroar_core.specs import DiagnosisSpec, PredictionSpec

SHARE = 0.1  # of the whole job, for a diagnosis in bands of its own


def key(loaded: LoadedModel, setting: Setting, asked: DiagnosisSpec, spec: PredictionSpec) -> tuple:
    """The diagnosis belongs to it, in the bands asked here."""
    return stage_key("predict", loaded, setting, spec, asked)


def start(loaded: LoadedModel, setting: Setting, asked: DiagnosisSpec, spec: PredictionSpec) -> None:
    """Queue it behind the setting's own diagnosis; one in other bands is no run of its own and made on the way."""
    first = (diagnosing.start(loaded, setting),) if asked == setting.diagnosis else ()
    submit(key(loaded, setting, asked, spec), _predict, loaded, setting, asked, spec,
           label=f"Cost of single bands of {loaded.name}", needs=first)  # fmt: skip


def _predict(loaded: LoadedModel, setting: Setting, asked: DiagnosisSpec, spec: PredictionSpec,
             diagnosed: Diagnosis | None = None, *, on_step: OnStep) -> Prediction:  # fmt: skip
    documents, rest = texts(setting), on_step
    if diagnosed is None:
        diagnosed = diagnose.run(loaded, setting.rope, setting.quant, asked, documents["calibration"],
                                 on_step=part(on_step, 0, SHARE, 1)).as_written()  # fmt: skip
        rest = part(on_step, SHARE, 1, 1)
    return predict.run(loaded, setting.rope, setting.quant, spec, documents["heldout"], diagnosed, on_step=rest)
