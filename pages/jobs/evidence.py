"""The stages of the Evidence page: controls, the papers' claims, what single bands cost, the best interpolation."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from pages.jobs import Stage, diagnose
from pages.state.job_key import origin
from qroar_core.diagnostics import run as diagnostics
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evidence.controls import run as controls
from qroar_core.evidence.controls.result import Controls
from qroar_core.evidence.prediction import run as prediction
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.evidence.replication import run as replication
from qroar_core.evidence.replication.result import Replication
from qroar_core.job import JobKey
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, subprogress
from qroar_core.rope_search.result import RopeSearch, RopeTrials
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.specs import (
    ControlSpec,
    DiagnosisSpec,
    PredictionSpec,
    QuantSpec,
    ReplicationSpec,
    RopeSearchSpec,
    RopeSpec,
)

Pairs = tuple[tuple[RopeSpec, QuantSpec], ...]
DIAGNOSIS_SHARE = 0.1  # of a prediction, for a diagnosis in bands of its own


def _control(
    loaded: LoadedModel,
    setting: Setting,
    outcome: SearchOutcome,
    spec: ControlSpec,
    *,
    before: tuple[Diagnosis],
    on_step: OnStep,
) -> Controls:
    return controls.run(loaded, setting, outcome.found, spec, setting.texts(), *before, on_step=on_step)


def _controlled(setting: Setting, outcome: SearchOutcome, spec: ControlSpec) -> tuple[Hashable, ...]:
    return spec, *origin(setting, outcome)


control = Stage(
    "controls",
    "Controls with {model}",
    _controlled,
    _control,
    lambda loaded, setting, *_: (diagnose.start(loaded, setting),),
)


def _replicate(
    loaded: LoadedModel, setting: Setting, pairs: Pairs, spec: ReplicationSpec, on_step: OnStep
) -> Replication:
    return replication.run(loaded, setting, pairs, spec, setting.texts(), on_step=on_step)


def _replicated(setting: Setting, pairs: Pairs, spec: ReplicationSpec) -> tuple[Hashable, ...]:
    return spec, pairs, setting.search, setting.diagnosis


replicate = Stage("replicate", "Test the claims with {model}", _replicated, _replicate)


def _predict(
    loaded: LoadedModel,
    setting: Setting,
    asked: DiagnosisSpec,
    spec: PredictionSpec,
    *,
    before: tuple[Diagnosis, ...] = (),
    on_step: OnStep,
) -> Prediction:
    """A diagnosis in other bands than the setting's is no run of its own, and made on the way."""
    documents, rest = setting.texts(), on_step
    if not before:
        first, rest = subprogress(on_step, 0, DIAGNOSIS_SHARE, 1), subprogress(on_step, DIAGNOSIS_SHARE, 1, 1)
        made = diagnostics.run(loaded, replace(setting, diagnosis=asked), documents["calibration"], on_step=first)
        before = (made.as_written(),)
    return prediction.run(loaded, setting, spec, documents["heldout"], before[0], on_step=rest)


def _predicted(setting: Setting, asked: DiagnosisSpec, spec: PredictionSpec) -> tuple[Hashable, ...]:
    return spec, asked


def _own_diagnosis(loaded: LoadedModel, setting: Setting, asked: DiagnosisSpec, *_: object) -> tuple[JobKey, ...]:
    return (diagnose.start(loaded, setting),) if asked == setting.diagnosis else ()


predict = Stage("predict", "Cost of single bands of {model}", _predicted, _predict, _own_diagnosis)


def _tune_rope(
    loaded: LoadedModel, setting: Setting, spec: RopeSearchSpec, resume: RopeTrials | None = None, *, on_step: OnStep
) -> RopeSearch:
    from qroar_core.rope_search import run as rope_search  # with Optuna, which no other page needs to be drawn

    return rope_search.run(loaded, setting, spec, setting.texts(), on_step=on_step, resume=resume)


def _tuned_rope(setting: Setting, spec: RopeSearchSpec, resume: RopeTrials | None = None) -> tuple[Hashable, ...]:
    return (spec,)


tune_rope = Stage("tune_rope", "Choose the interpolation for {model}", _tuned_rope, _tune_rope)
