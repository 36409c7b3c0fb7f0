"""The stages that measure: evaluate, retrieve, lm_eval, tune_rope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qroar_core.checks import of_kind
from qroar_core.errors import BadOutput, BadSpec
from qroar_core.evaluation import run as evaluate_stage
from qroar_core.harness import run as harness_stage
from qroar_core.library.arguments import resolved, scales_of, several, spec_of
from qroar_core.library.refusal_words import in_parameters
from qroar_core.library.results import Evaluation, Retrieval, RopeSearch
from qroar_core.library.task_scores import TaskScores
from qroar_core.library.transform import Transform
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, no_progress
from qroar_core.retrieval import run as retrieve_stage
from qroar_core.rope_search import run as rope_stage
from qroar_core.rope_search.result import RopeTrials
from qroar_core.runs.file_kinds import STOPPED_ROPE_SEARCH, other_kind_named
from qroar_core.setup import Setup
from qroar_core.specs import (
    EvaluationSpec,
    HarnessSpec,
    RetrievalSpec,
    RopeSearchSpec,
)


@in_parameters
def evaluate(
    model: LoadedModel,
    setup: Setup,
    transform: Transform | None = None,
    *,
    smooth_attention: Transform | None = None,
    lengths: Sequence[int] = (),
    windows: int | None = None,
    rotation: bool = True,
    spec: EvaluationSpec | None = None,
    on_step: OnStep = no_progress,
) -> Evaluation:
    """Perplexity of reference, quantized model and remedies on held-out text, with intervals paired over windows.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: interpolation, quantizers, context length, bands and text; what it leaves open is filled in for `model`.
        transform: measured beside identity; None leaves it out.
        smooth_attention: another transform to measure beside it.
        lengths: contexts in tokens, the same target tokens at each; (): a short one and the setup's.
        windows: held-out windows; None: 8 or 16, or as many as the text holds.
        rotation: also measure the same quantizer behind a Hadamard rotation.
        spec: everything else that can be asked (`qroar_core.specs.EvaluationSpec`), in place of what is said here.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        NLL (nats a token), perplexity and KL of every condition at every length, and the gain with its interval.
    Raises:
        BadText: too little text. BadSpec: lengths or windows that do not go. BadScales: a transform of another model.
        Cancelled: raised by `on_step`.
    """
    setting = resolved(model, setup, on_step)
    asked = spec_of(spec, EvaluationSpec) or replace(
        setting.evaluation,
        lengths=several("lengths", lengths) or setting.evaluation.lengths,
        windows=setting.evaluation.windows if windows is None else windows,
        fewer=windows is None,
        rotation=rotation,
    )
    if asked.rotation_scales:
        do = "drop it, or take `qroar run --rotation-scales`"
        raise BadSpec(
            "no scales of the rotated quantizer are measured", where="evaluate(spec=... rotation_scales)", do=do
        )
    found = evaluate_stage.run(
        model,
        replace(setting, evaluation=asked),
        scales_of(transform, model),
        scales_of(smooth_attention, model),
        setup.texts()["heldout"],
        on_step,
    )
    return Evaluation.of(found.as_written())


@in_parameters
def retrieve(
    model: LoadedModel,
    setup: Setup,
    transform: Transform | None = None,
    *,
    lengths: Sequence[int] = (),
    trials: int = 5,
    spec: RetrievalSpec | None = None,
    on_step: OnStep = no_progress,
) -> Retrieval:
    """Numbers hidden in held-out text, asked for under each condition, by depth and length.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: interpolation, quantizers, context length, bands and text; what it leaves open is filled in for `model`.
        transform: measured beside identity; None leaves it out.
        lengths: prompt and answer together, tokens; (): the setup's.
        trials: per task, length and depth.
        spec: everything else that can be asked (`qroar_core.specs.RetrievalSpec`), in place of what is said here.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        Hits, log-probabilities and ranks by task, length, depth and condition, with findings.
    Raises:
        BadText: documents shorter than a length. BadSpec: lengths or trials that do not go.
        BadScales: a transform of another model. Cancelled: raised by `on_step`.
    """
    setting = resolved(model, setup, on_step)
    asked = spec_of(spec, RetrievalSpec) or RetrievalSpec(
        lengths=several("lengths", lengths) or setting.evaluation.lengths, trials=trials, seed=setup.seed
    )
    scales = scales_of(transform, model)
    found = retrieve_stage.run(model, setting, scales, asked, setup.texts()["heldout"], on_step)
    return Retrieval.of(found.as_written())


@in_parameters
def lm_eval(
    model: LoadedModel,
    setup: Setup,
    tasks: Sequence[str] = (),
    transform: Transform | None = None,
    *,
    num_fewshot: int | None = None,
    limit: int | None = None,
    truncate: bool = False,
    spec: HarnessSpec | None = None,
    on_step: OnStep = no_progress,
) -> TaskScores:
    """Tasks of lm-evaluation-harness on the reference, the quantized and the tuned model; needs the extra `[lm-eval]`.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: interpolation, quantizers, context length, bands and text; what it leaves open is filled in for `model`.
        tasks: names of tasks, groups or tags of the harness, or paths of YAML files.
        transform: measured beside identity; None leaves it out.
        num_fewshot: examples before each question; None: as the task says.
        limit: first documents of each task; None: all.
        truncate: cut what stands before a question from the left where it does not fit the length, and say how often;
            False: refuse it.
        spec: everything else that can be asked (`qroar_core.specs.HarnessSpec`), in place of what is said here.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        The harness's metrics by task and condition, and their differences, paired by document, with intervals.
    Raises:
        BadSpec: the harness is not installed, no such task, or a request longer than the length.
        BadText: documents of a task that cannot be read. BadScales: a transform of another model.
        Cancelled: raised by `on_step`.
    """
    setting = resolved(model, setup, on_step)
    asked = spec_of(spec, HarnessSpec) or HarnessSpec(
        several("tasks", tasks), fewshot=num_fewshot, limit=limit, truncate=truncate, seed=setup.seed
    )
    asked = replace(asked, length=asked.length or setting.diagnosis.length)
    scales = scales_of(transform, model)
    found = harness_stage.run(model, setting, scales, asked, setup.texts()["calibration"], on_step)
    return TaskScores.of(found.as_written())


@in_parameters
def tune_rope(
    model: LoadedModel,
    setup: Setup,
    *,
    trials: int = 40,
    windows: int | None = None,
    spec: RopeSearchSpec | None = None,
    resume: RopeTrials | str | Path | None = None,
    on_step: OnStep = no_progress,
) -> RopeSearch:
    """Choose the interpolation in full precision and on the quantized model, and compare the choices on held-out text.

    Go on with what is worth keeping: `dataclasses.replace(setup, rope=found.rope)`.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: its interpolation is what the choices are compared with, its factor what is searched around, its length
            what is read; what it leaves open is filled in for `model`.
        trials: interpolations tried in each condition, every method at its published numbers among them.
        windows: of development text; None: 4, or as many as the text holds.
        spec: everything else that can be asked (`qroar_core.specs.RopeSearchSpec`), in place of what is said here.
        resume: the `partial` of a search that was stopped, or the rope_trials.json of one: what it measured is not
            measured again, and the result is that of a search that was never stopped.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        Both choices, what held-out text says of them in both conditions, and in `rope` what is worth keeping.
    Raises:
        BadText: too little text. BadSpec: nothing is quantized, or an interpolation that stretches nothing.
        BadOutput: `resume` cannot be read, or was measured under another model, setup or text.
        Cancelled: raised by `on_step`; its `partial` is what was tried, a `rope_search.result.RopeTrials`.
    """
    setting = resolved(model, setup, on_step)
    asked = spec_of(spec, RopeSearchSpec) or RopeSearchSpec(
        trials=trials,
        windows=RopeSearchSpec().windows if windows is None else windows,
        heldout_windows=setting.evaluation.windows,
        seed=setup.seed,
        fewer=windows is None,
    )
    stopped = _stopped(Path(resume).expanduser()) if isinstance(resume, str | Path) else resume
    if stopped is not None:
        of_kind(
            "resume", stopped, RopeTrials, "trials of a search", "give a Cancelled's partial, or a rope_trials.json"
        )
    return RopeSearch.of(rope_stage.run(model, setting, asked, setup.texts(), on_step, stopped).as_written())


def _stopped(path: Path) -> RopeTrials:
    with other_kind_named(path, STOPPED_ROPE_SEARCH, BadOutput):
        return RopeTrials.from_file(path, BadOutput)
