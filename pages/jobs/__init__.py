"""What runs behind a button: of every stage what it computes, what its numbers depend on and what it needs first.

`jobs.diagnose.start(...)` queues, `.key(...)` names and `.result(...)` finds again; see `stage`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from pages.jobs.stage import Stage, origin, texts
from pages.state.job_key import JobKey
from qroar_core.diagnostics import run as diagnostics
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation import continuations
from qroar_core.evaluation import run as evaluation
from qroar_core.evaluation.continuations_result import Continuations
from qroar_core.evaluation.result import Evaluation
from qroar_core.evidence.controls import run as controls
from qroar_core.evidence.controls.result import Controls
from qroar_core.evidence.prediction import run as prediction
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.evidence.replication import run as replication
from qroar_core.evidence.replication.result import Replication
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, subprogress
from qroar_core.remedies import run as remedies
from qroar_core.remedies.result import Comparison
from qroar_core.retrieval import run as retrieval
from qroar_core.retrieval.result import Retrieval
from qroar_core.scale_search import run as scale_search
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.manual_scales import Probe
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.registry import objectives
from qroar_core.setting import Setting
from qroar_core.specs import (
    ComparisonSpec,
    ContinuationSpec,
    ControlSpec,
    DiagnosisSpec,
    PredictionSpec,
    QuantSpec,
    ReplicationSpec,
    RetrievalSpec,
    RopeSpec,
    SearchSpec,
)
from qroar_core.transforms.scales import Scales

Pairs = tuple[tuple[RopeSpec, QuantSpec], ...]
DIAGNOSIS_SHARE = 0.1  # of a prediction, for a diagnosis in bands of its own


def _diagnose(loaded: LoadedModel, setting: Setting, scales: Scales | None = None, *, on_step: OnStep) -> Diagnosis:
    calibration = texts(setting)["calibration"]
    return diagnostics.run(loaded, setting, calibration, on_step=on_step, scales=scales)


def _diagnosed(setting: Setting, scales: Scales | None = None) -> tuple[Hashable, ...]:
    return (setting.diagnosis,) if scales is None else (setting.diagnosis, scales.digest)


diagnose = Stage("diagnose", "Diagnose {model}", _diagnosed, _diagnose)
diagnose_scaled = replace(diagnose, label="Diagnose {model} with scales")  # the same jobs; their keys hold the scales


def _search(
    loaded: LoadedModel,
    setting: Setting,
    resume: SearchOutcome | None = None,
    *,
    before: tuple[Diagnosis],
    on_step: OnStep,
) -> SearchOutcome:
    return scale_search.run(loaded, setting, texts(setting), *before, on_step=on_step, resume=resume)


def _searched(setting: Setting, resume: SearchOutcome | None = None) -> tuple[Hashable, ...]:
    return setting.search, setting.diagnosis  # which its bounds come from


search = Stage(
    "search", "Tune {model}", _searched, _search, lambda loaded, setting, *_: (diagnose.start(loaded, setting),)
)


def _search_rotated(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> SearchOutcome:
    """No diagnosis widens the bounds: it saw K on axes that the rotation leaves."""
    turned = evaluation.must_rotate(setting.quant)
    return scale_search.run(loaded, replace(setting, quant=turned), texts(setting), None, on_step=on_step)


def _searched_rotated(setting: Setting) -> tuple[Hashable, ...]:
    return (setting.search,)


search_rotated = Stage("search under rotation", "Tune {model} under a rotation", _searched_rotated, _search_rotated)


def _evaluate(
    loaded: LoadedModel,
    setting: Setting,
    outcome: SearchOutcome | None,
    *,
    before: tuple[SearchOutcome, ...] = (),
    on_step: OnStep,
) -> Evaluation:
    return evaluation.run(
        loaded,
        setting,
        *_scales_of(outcome),
        texts(setting)["heldout"],
        on_step=on_step,
        rotation_tuned=before[0].found if before else None,
    )


def _evaluated(setting: Setting, outcome: SearchOutcome | None) -> tuple[Hashable, ...]:
    return setting.evaluation, *origin(setting, outcome)


def _second_search(loaded: LoadedModel, setting: Setting, *_: object) -> tuple[JobKey, ...]:
    return (search_rotated.start(loaded, setting),) if setting.evaluation.rotation_scales else ()


evaluate = Stage("evaluate", "Evaluate {model}", _evaluated, _evaluate, _second_search)


def _continue(
    loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None, spec: ContinuationSpec, on_step: OnStep
) -> Continuations:
    documents = texts(setting)["heldout"]
    return continuations.run(loaded, setting, *_scales_of(outcome), spec, documents, on_step=on_step)


def _continued(setting: Setting, outcome: SearchOutcome | None, spec: ContinuationSpec) -> tuple[Hashable, ...]:
    return spec, *origin(setting, outcome)


continue_prompt = Stage("continue", "Continue a prompt with {model}", _continued, _continue)


def _retrieve(
    loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None, spec: RetrievalSpec, on_step: OnStep
) -> Retrieval:
    scales, documents = _scales_of(outcome)[0], texts(setting)["heldout"]
    return retrieval.run(loaded, setting, scales, spec, documents, on_step=on_step)


def _retrieved(setting: Setting, outcome: SearchOutcome | None, spec: RetrievalSpec) -> tuple[Hashable, ...]:
    return spec, *origin(setting, outcome)


retrieve = Stage("retrieve", "Retrieval with {model}", _retrieved, _retrieve)


def _compare(loaded: LoadedModel, setting: Setting, spec: ComparisonSpec, on_step: OnStep) -> Comparison:
    return remedies.run(loaded, setting, spec, texts(setting), on_step=on_step)


def _compared(setting: Setting, spec: ComparisonSpec) -> tuple[Hashable, ...]:
    return (spec,)


compare = Stage("compare", "Compare remedies for {model}", _compared, _compare)


def _control(
    loaded: LoadedModel,
    setting: Setting,
    outcome: SearchOutcome,
    spec: ControlSpec,
    *,
    before: tuple[Diagnosis],
    on_step: OnStep,
) -> Controls:
    return controls.run(loaded, setting, outcome.found, spec, texts(setting), *before, on_step=on_step)


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
    return replication.run(loaded, setting, pairs, spec, texts(setting), on_step=on_step)


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
    documents, rest = texts(setting), on_step
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


def _probe(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Probe:
    return scale_search.probe(loaded, setting, texts(setting), on_step)


def _probed(setting: Setting) -> tuple[Hashable, ...]:
    """What is read depends on the text and the bands, not on how a search would go."""
    names = ("angles", "objective", "method", "sampler", "kappa0", "grid_points", "sweeps", "steps", "trials")
    plain = SearchSpec()
    return (replace(setting.search, bounds=None, **{name: getattr(plain, name) for name in names}),)


probe = Stage("probe", "Read q and k of {model}", _probed, _probe, kept=False, alone=True)


def _measure_gain(loaded: LoadedModel, setting: Setting, scales: Scales, on_step: OnStep) -> Decision:
    return scale_search.measure_gain(loaded, setting, scales, texts(setting), on_step)


def _gained(setting: Setting, scales: Scales) -> tuple[Hashable, ...]:
    """Which windows of development text a search reads itself, its objective says."""
    asked = setting.search
    spec = SearchSpec(bands=asked.bands, length=asked.length, seed=asked.seed)
    if objectives()[asked.objective].reads_development:
        spec = replace(spec, objective=asked.objective, windows=asked.windows)
    return spec, scales.digest


measure_gain = Stage("gain", "Measure the gain on {model}", _gained, _measure_gain, kept=False)


def _scales_of(outcome: SearchOutcome | None) -> tuple[Scales | None, Scales | None]:
    return (outcome.found, outcome.smooth) if outcome else (None, None)
