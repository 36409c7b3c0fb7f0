"""The stages in the order of the work: load, diagnose, search, evaluate, export; beside them retrieval and remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qroar_core.checks import of_kind
from qroar_core.diagnostics import run as diagnose_stage
from qroar_core.diagnostics.result import Diagnosis as PlainDiagnosis
from qroar_core.errors import BadSpec
from qroar_core.evaluation import run as evaluate_stage
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.writers import writer_of
from qroar_core.library.results import Comparison, Diagnosis, Evaluation, Retrieval, Search, Transform
from qroar_core.models import load as load_stage
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, no_progress
from qroar_core.remedies import run as remedies_stage
from qroar_core.retrieval import run as retrieve_stage
from qroar_core.scale_search import run as search_stage
from qroar_core.setting import Setting
from qroar_core.setup import Setup
from qroar_core.specs import (
    ComparisonSpec,
    DiagnosisSpec,
    EvaluationSpec,
    Granularity,
    Mode,
    RetrievalSpec,
    SearchSpec,
)
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales


def load(
    source: str | Path, *, device: str = "auto", dtype: str = "auto", on_step: OnStep = no_progress
) -> LoadedModel:
    """Load a causal language model, ready to be measured.

    Args:
        source: `demo`, `smollm2`, a checkpoint folder, a GGUF file, or a name on the hub.
        device: `auto`, `cpu`, `cuda`, `cuda:0`, `mps`.
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16`, `float16`.
        on_step: called with a `Step` as the work goes on; see qroar_core.progress.
    Raises:
        BadCheckpoint: something in the files that would not be read exactly as it is meant; the message says what.
    """
    return load_stage.run(str(source), device=device, dtype=dtype, on_step=on_step)


def diagnose(
    model: LoadedModel,
    setup: Setup,
    *,
    transform: Transform | None = None,
    null_draws: int = 1,
    band_cost: bool = False,
    spec: DiagnosisSpec | None = None,
    on_step: OnStep = no_progress,
) -> Diagnosis:
    """All diagnostics by frequency band, on calibration text, each with its null.

    Args:
        transform: measure the model with it in W_Q and W_K; None: as it is.
        null_draws: draws of each random null; those that a title answers yes or no by are drawn 19 times or more.
        band_cost: also round each band alone and measure what it costs (a pass a band).
        spec: everything else that can be asked (`qroar_core.specs.DiagnosisSpec`), in place of what `setup` says.
    Raises:
        BadText: too little text. BadSpec: windows that do not fit, or a quantizer that this model's cache cannot take.
    """
    setting = _resolved(model, setup)
    asked = spec or replace(setting.diagnosis, null_draws=null_draws, band_cost=band_cost)
    found = diagnose_stage.run(
        model,
        replace(setting, diagnosis=asked),
        setup.texts()["calibration"],
        on_step,
        scales=_scales(transform, model),
    )
    return Diagnosis.of(found.as_written())


def search(
    model: LoadedModel,
    setup: Setup,
    *,
    diagnosis: PlainDiagnosis | None = None,
    angles: bool = False,
    maps: bool = False,
    value_maps: bool = False,
    mode: Mode = "symmetric",
    granularity: Granularity | None = None,
    objective: str = "cached",
    windows: int | None = None,
    spec: SearchSpec | None = None,
    on_step: OnStep = no_progress,
) -> Search:
    """Search one scale a band for W_Q and W_K; identity is kept unless development text shows a gain.

    Args:
        diagnosis: inflated tails widen the bounds of their bands; without one the pressure alone sets them.
        angles: also search one angle a RoPE pair.
        maps: and a matrix for each group of channels that turn alike (tied pairs); angles come with it.
        value_maps: also a matrix for V of each KV head, its inverse in W_O, for a quantized V cache.
        mode: `symmetric` (q times g, k divided by it: exact in full precision) or `shared` (both times g).
        granularity: one set of scales a `model`, `layer` or `kv_head`; None: the finest that is exact for this family.
        objective: `cached` (the error of attention on captured text), `full` (NLL) or `kl` (to the whole model).
        windows: windows of calibration text; None: 6, or as many as the text holds.
        spec: everything else that can be asked (`qroar_core.specs.SearchSpec`), in place of what is said here.
    Raises:
        BadText: too little text. BadSpec: an objective that cannot see the quantizer.
        Cancelled: raised by `on_step`.
    """
    setting = _resolved(model, setup)
    asked = spec or replace(
        setting.search,
        angles=angles or maps,
        maps=maps,
        value_maps=value_maps,
        mode=mode,
        granularity=granularity or setting.search.granularity,
        objective=objective,
        windows=setting.search.windows if windows is None else windows,
        fewer=windows is None,
    )
    outcome = search_stage.run(model, replace(setting, search=asked), setup.texts(), diagnosis, on_step).as_written()
    summary = outcome.report.model_dump(exclude={"history", "bounds"})

    def written(scales: Scales) -> Transform:
        return Transform.of(to_file(model, setting.rope, setting.quant, scales, summary))

    return Search(
        transform=written(outcome.kept),
        found=written(outcome.found),
        smooth_attention=written(outcome.smooth),
        mad=written(outcome.mad),
        report=outcome.report,
        outcome=outcome,
    )


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
        transform: measured beside identity; None leaves it out.
        smooth_attention: another transform to measure beside it.
        lengths: contexts in tokens, the same target tokens at each; (): a short one and the setup's.
        windows: held-out windows; None: 8 or 16, or as many as the text holds.
        rotation: also measure the same quantizer behind a Hadamard rotation.
        spec: everything else that can be asked (`qroar_core.specs.EvaluationSpec`), in place of what is said here.
    Raises:
        BadText: too little text. BadScales: a transform of another model.
    """
    setting = _resolved(model, setup)
    asked = spec or replace(
        setting.evaluation,
        lengths=_several("lengths", lengths) or setting.evaluation.lengths,
        windows=setting.evaluation.windows if windows is None else windows,
        fewer=windows is None,
        rotation=rotation,
    )
    found = evaluate_stage.run(
        model,
        replace(setting, evaluation=asked),
        _scales(transform, model),
        _scales(smooth_attention, model),
        setup.texts()["heldout"],
        on_step,
    )
    return Evaluation.of(found.as_written())


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
        transform: measured beside identity; None leaves it out.
        lengths: prompt and answer together, tokens; (): the setup's.
        trials: per task, length and depth.
        spec: everything else that can be asked (`qroar_core.specs.RetrievalSpec`), in place of what is said here.
    Raises:
        BadText: documents shorter than a length.
    """
    setting = _resolved(model, setup)
    asked = spec or RetrievalSpec(
        lengths=_several("lengths", lengths) or setting.evaluation.lengths, trials=trials, seed=setup.seed
    )
    scales = _scales(transform, model)
    found = retrieve_stage.run(model, setting, scales, asked, setup.texts()["heldout"], on_step)
    return Retrieval.of(found.as_written())


def compare(
    model: LoadedModel,
    setup: Setup,
    *,
    remedies: Sequence[str] = (),
    band_scales: bool = True,
    spec: ComparisonSpec | None = None,
    on_step: OnStep = no_progress,
) -> Comparison:
    """What people use already (rotation, SmoothAttention, per-channel K, AWQ, GPTQ), beside band scales and with them.

    Args:
        remedies: which; (): all that apply to what is quantized.
        band_scales: also search band scales under each of them.
        spec: everything else that can be asked (`qroar_core.specs.ComparisonSpec`), in place of what is said here.
    Raises:
        BadText: too little text. BadSpec: nothing is quantized, or a remedy that does not apply.
    """
    setting = _resolved(model, setup)
    asked = spec or ComparisonSpec(
        methods=_several("remedies", remedies),
        band_scales=band_scales,
        search=setting.search,
        windows=setting.evaluation.windows,
        fewer=True,
        seed=setup.seed,
    )
    found = remedies_stage.run(model, setting, asked, setup.texts(), on_step)
    return Comparison.of(found.as_written())


def export(
    model: LoadedModel,
    setup: Setup,
    transform: Transform | None,
    folder: str | Path,
    *,
    format: str = "hf",
    group_size: int | None = None,
    on_step: OnStep = no_progress,
) -> Path:
    """Write a checkpoint with the transform in W_Q and W_K and the interpolation in its config; returns its folder.

    Args:
        transform: None, or identity: the interpolation alone.
        folder: must not exist yet.
        format: `hf` (transformers, vLLM), `w4a16` (vLLM), `gguf-f16`, `gguf-bf16`, `gguf-q8_0`, `gguf-q4_0`
            (llama.cpp), `quantized` (the folder's own codes, scaled).
        group_size: inputs of a row that share a scale, of `w4a16` alone.
    Raises:
        BadOutput: the folder exists or cannot be written. BadSpec: a format this model cannot be written in.
        BadScales: a transform of another model.
    """
    rope = _resolved(model, setup).rope
    scales = _scales(transform, model)
    if group_size is not None and format in FORMATS and not FORMATS[format].takes_group_size:
        raise BadSpec(f"{format} has no group size", where="export(group_size=...)", do="drop it, or take w4a16")
    write = writer_of(format, group_size=group_size)
    return write(model, rope, scales, folder, on_step=on_step)


def _resolved(model: LoadedModel, setup: Setup) -> Setting:
    of_kind("model", model, LoadedModel, "a loaded model", 'give what qroar.load("demo") returns')
    of_kind("setup", setup, Setup, "a setup", "give qroar.Setup(...)")
    return setup.resolve(model)


def _scales(transform: Transform | None, model: LoadedModel) -> Scales | None:
    if transform is None:
        return None
    of_kind("transform", transform, Transform, "a transform", "give what a search found, or qroar.Transform.load(path)")
    return transform.scales(model)


def _several(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise BadSpec(f"{name} must be a list, got {values!r}", do=f"give {name}=[{values!r}]")
    return tuple(values)
