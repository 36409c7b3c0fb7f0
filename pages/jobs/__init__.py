"""What runs behind a button: one way to queue a stage, to name its job and to find its result again, and every stage.

`jobs.diagnose.start(...)` queues, `.key(...)` names and `.result(...)` finds again. A job's key says what it computes,
so that a reload, another page or a second tab finds it again. What runs in the worker never calls Streamlit. Stages of
the Evidence page are in `evidence`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from pages.jobs import kept_candidates
from pages.state.foreign_runs import marked, result_of
from pages.state.job_key import origin, stage_key
from pages.state.session import asked_here, library, manager
from qroar_core.diagnostics import run as diagnostics
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation import continuations
from qroar_core.evaluation import run as evaluation
from qroar_core.evaluation.continuations_result import Continuations
from qroar_core.evaluation.result import Evaluation
from qroar_core.job import JobKey
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import out_of_memory, ran_out
from qroar_core.number_of import number_of
from qroar_core.progress import OnStep
from qroar_core.remedies import run as remedies
from qroar_core.remedies.result import Comparison
from qroar_core.retrieval import run as retrieval
from qroar_core.retrieval.result import Retrieval
from qroar_core.runs.stage_files import Tuned
from qroar_core.scale_search import run as scale_search
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.manual_scales import Probe
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.search_objectives import objectives
from qroar_core.setting import Setting
from qroar_core.specs import (
    ComparisonSpec,
    ContinuationSpec,
    RetrievalSpec,
    SearchSpec,
)
from qroar_core.specs.labels import setting_words
from qroar_core.transforms.registry import kinds, switches
from qroar_core.transforms.scales import Scales

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
SAID_ONCE = ("length", "short_length", "granularity")  # options that the setting decides, or the model


@dataclass(frozen=True, slots=True)
class Stage(Generic[Asked, Found]):
    """One stage: `key`, `start` and `result` take the model, the setting and whatever else this stage is asked with."""

    name: str  # in the key; `runs.stage_files` knows it too
    label: str  # with {model}
    depends: Callable[Concatenate[Setting, Asked], tuple[Hashable, ...]]  # what of it all the numbers depend on
    run: Callable[..., Found]  # of all that, `on_step`, and `before`: the results of what it needs, if anything
    needs: Callable[..., tuple[JobKey, ...]] = lambda *_: ()  # queues what must come before; its keys
    kept: bool = True  # in a run folder; else in memory alone
    alone: bool = False  # whether other results of this stage leave the memory for it

    def key(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> JobKey[Found]:
        """What this stage would compute for this model and setting on its texts."""
        return JobKey(stage_key(self.name, loaded, setting, *self.depends(setting, *asked, **named)))

    def result(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> Found | None:
        """The finished result, if there is one, of this server, an earlier one or a run that the visitor opened."""
        return result_of(self.key(loaded, setting, *asked, **named))

    def marked(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> Found | None:
        """The same to be shown: that of a run which the visitor opened stands under a line that says so."""
        return marked(self.key(loaded, setting, *asked, **named))

    def start(self, loaded: LoadedModel, setting: Setting, *asked: Asked.args, **named: Asked.kwargs) -> JobKey[Found]:
        """Queue it behind what it needs, unless it is there already; returns its key."""
        key, mine = self.key(loaded, setting, *asked, **named), asked_here()  # behind which nothing ends a run
        before = self.needs(loaded, setting, *asked)
        if self.alone:
            manager().release(self.name, but=key)
        work = partial(self.run, loaded, setting, *asked, **named)
        manager().submit(
            key,
            partial(_within_memory, work, loaded, setting) if self.kept else partial(_after, work),
            label=self.label.format(model=loaded.name),
            device=str(loaded.device),
            keep=partial(library().keep, key, loaded, setting) if self.kept else None,
            needs=before,
            about=_about(setting, self.depends(setting, *asked, **named)),
        )
        mine.add(key)
        return key


def _about(setting: Setting, depends: tuple[Hashable, ...]) -> str:
    """The setting in few words, and what of the stage's own options is not as it comes: jobs of one label differ in it.

    Lengths and bands are one choice for all stages, and stand in front.
    """
    bands = setting.search.bands
    words = [
        setting_words(setting.rope, setting.quant),
        f"{setting.search.length} tokens",
        f"{number_of(bands.count, 'band')} by {bands.partition}",
    ]
    for spec in (one for one in depends if is_dataclass(one) and not isinstance(one, Tuned)):
        for option in fields(spec):
            value = getattr(spec, option.name)
            if isinstance(value, bool | int | float | str) and option.compare and value != option.default:
                words += [] if option.name in SAID_ONCE else [_option_words(option.name, value)]
    return ", ".join(dict.fromkeys(words))


def _option_words(name: str, value: bool | int | float | str) -> str:
    """`steps 3`; of a switch that is on its name alone, in the words of the page where it has others."""
    if isinstance(value, bool):
        said = f"{kinds()[name].label} too" if name in switches() else name.replace("_", " ")
        return said if value else f"no {said}"
    return f"{name.replace('_', ' ')} {value}"


def _after(work: Callable[..., Found], *before: Any, on_step: OnStep) -> Found:
    return work(before=before, on_step=on_step) if before else work(on_step=on_step)


def _within_memory(
    work: Callable[..., Any], loaded: LoadedModel, setting: Setting, *before: Any, on_step: OnStep
) -> object:
    """The stage's result as its file gives it back: after a restart a page shows the same digits.

    Out of memory anywhere inside the stage becomes one line that names the length that fits.
    """
    try:
        return _after(work, *before, on_step=on_step).as_written()
    except Exception as fault:
        if not ran_out(fault):
            raise
        traceback.clear_frames(fault.__traceback__)  # they hold the tensors that filled the memory
        asked = max(setting.search.length or 0, setting.diagnosis.length or 0, *setting.evaluation.lengths)
        raise out_of_memory(loaded, asked) from None


def _diagnose(loaded: LoadedModel, setting: Setting, scales: Scales | None = None, *, on_step: OnStep) -> Diagnosis:
    calibration = setting.texts()["calibration"]
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
    if resume is None:
        return kept_candidates.search(loaded, setting, *before, on_step)
    return scale_search.run(loaded, setting, setting.texts(), *before, on_step=on_step, resume=resume)


def _searched(setting: Setting, resume: SearchOutcome | None = None) -> tuple[Hashable, ...]:
    return setting.search, setting.diagnosis  # which its bounds come from


search = Stage(
    "search", "Tune {model}", _searched, _search, lambda loaded, setting, *_: (diagnose.start(loaded, setting),)
)


def _search_rotated(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> SearchOutcome:
    """No diagnosis widens the bounds: it saw K on axes that the rotation leaves."""
    turned = evaluation.must_rotate(setting.quant)
    return scale_search.run(loaded, replace(setting, quant=turned), setting.texts(), None, on_step=on_step)


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
        setting.texts()["heldout"],
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
    documents = setting.texts()["heldout"]
    return continuations.run(loaded, setting, *_scales_of(outcome), spec, documents, on_step=on_step)


def _continued(setting: Setting, outcome: SearchOutcome | None, spec: ContinuationSpec) -> tuple[Hashable, ...]:
    return spec, *origin(setting, outcome)


continue_prompt = Stage("continue", "Continue a prompt with {model}", _continued, _continue)


def _retrieve(
    loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None, spec: RetrievalSpec, on_step: OnStep
) -> Retrieval:
    scales, documents = _scales_of(outcome)[0], setting.texts()["heldout"]
    return retrieval.run(loaded, setting, scales, spec, documents, on_step=on_step)


def _retrieved(setting: Setting, outcome: SearchOutcome | None, spec: RetrievalSpec) -> tuple[Hashable, ...]:
    return spec, *origin(setting, outcome)


retrieve = Stage("retrieve", "Retrieval with {model}", _retrieved, _retrieve)


def _compare(loaded: LoadedModel, setting: Setting, spec: ComparisonSpec, on_step: OnStep) -> Comparison:
    return remedies.run(loaded, setting, spec, setting.texts(), on_step=on_step)


def _compared(setting: Setting, spec: ComparisonSpec) -> tuple[Hashable, ...]:
    return (spec,)


compare = Stage("compare", "Compare remedies for {model}", _compared, _compare)


def _probe(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Probe:
    return scale_search.probe(loaded, setting, setting.texts(), on_step)


def _probed(setting: Setting) -> tuple[Hashable, ...]:
    """What is read depends on the text and the bands, not on how a search would go; maps are tried where it has any."""
    names = ["objective", "method", "sampler", "max_log2_scale", "grid_points", "sweeps", "steps", "trials"]
    names += [] if setting.search.maps else ["angles"]
    plain = SearchSpec()
    return (replace(setting.search, bounds=None, **{name: getattr(plain, name) for name in names}),)


probe = Stage("probe", "Read q and k of {model}", _probed, _probe, kept=False, alone=True)


def _measure_gain(loaded: LoadedModel, setting: Setting, scales: Scales, on_step: OnStep) -> Decision:
    return scale_search.measure_gain(loaded, setting, scales, setting.texts(), on_step)


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
