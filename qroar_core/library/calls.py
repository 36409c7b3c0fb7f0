"""The stages that make something, in the order of the work: load, diagnose, search, export. `held_out` measures it."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

from qroar_core.checks import of_kind
from qroar_core.diagnostics import run as diagnose_stage
from qroar_core.diagnostics.result import Diagnosis as PlainDiagnosis
from qroar_core.errors import BadCheckpoint, BadSpec
from qroar_core.exporters.cache_scales import require_scaled_cache
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.writers import cache_scales_of, writer_of
from qroar_core.library.arguments import check_diagnosis, check_on_step, resolved, scales_of, spec_of
from qroar_core.library.refusal_words import in_parameters
from qroar_core.library.results import Diagnosis, TieChoice
from qroar_core.library.search import Search
from qroar_core.library.transform import Transform
from qroar_core.models import load as load_stage
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, no_progress
from qroar_core.runs.file_kinds import kind_of_file
from qroar_core.scale_search import choose_ties as choose_stage
from qroar_core.scale_search import run as search_stage
from qroar_core.setup import Setup, too_short
from qroar_core.specs import (
    DiagnosisSpec,
    Granularity,
    Mode,
    SearchSpec,
)
from qroar_core.specs.stages import LEAST_DIAGNOSED
from qroar_core.transforms.file import to_file
from qroar_core.transforms.scales import Scales


@in_parameters
def load(
    source: str | Path, *, device: str = "auto", dtype: str = "auto", on_step: OnStep = no_progress
) -> LoadedModel:
    """Load a causal language model, ready to be measured.

    Args:
        source: `demo`, `smollm2`, a checkpoint folder, a GGUF file, or a name on the hub.
        device: `auto`, `balanced` (layers over all GPUs), `cpu`, `cuda`, `cuda:0`, `mps`.
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16`, `float16`, `float64`.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        The transformers model, its tokenizer and its geometry, as every stage takes them.
    Raises:
        BadCheckpoint: missing, or something in the files that would not be read exactly as it is meant.
        UnsupportedModel: no RoPE, or a layout that is not known.
        BadSpec: a device or dtype that cannot be had. Cancelled: raised by `on_step`.
    """
    check_on_step(on_step)
    of_kind("load(source=...)", source, (str, PathLike), "a name or a path", 'give for example qroar.load("demo")')
    if (path := Path(source).expanduser()).suffix == ".json" and (found := kind_of_file(path)):
        raise BadCheckpoint(f"is {found.words}, not a model", where=str(source), do=found.do)
    return load_stage.run(str(source), device=device, dtype=dtype, on_step=on_step)


@in_parameters
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
        model: what `load` returned; it is as it was afterwards.
        setup: interpolation, quantizers, context length, bands and text; what it leaves open is filled in for `model`.
        transform: measure the model with it in W_Q and W_K; None: as it is.
        null_draws: draws of each random null; those that a title answers yes or no by are drawn 19 times or more.
        band_cost: also round each band alone and measure what it costs (a pass a band).
        spec: everything else that can be asked (`qroar_core.specs.DiagnosisSpec`), in place of what `setup` says.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        The diagnostics with their nulls; `plot`, `table` and `summary` show them.
    Raises:
        BadText: too little text. BadScales: a transform of another model.
        BadSpec: windows that do not fit, or a quantizer that this model's cache cannot take.
        Cancelled: raised by `on_step`.
    """
    setting = resolved(model, setup, on_step)
    if spec is None and setup.length is not None and setup.length < LEAST_DIAGNOSED:
        raise too_short(setup.length)
    asked = spec_of(spec, DiagnosisSpec) or replace(setting.diagnosis, null_draws=null_draws, band_cost=band_cost)
    found = diagnose_stage.run(
        model,
        replace(setting, diagnosis=asked),
        setup.texts()["calibration"],
        on_step,
        scales=scales_of(transform, model),
    )
    return Diagnosis.of(found.as_written())


@in_parameters
def choose_ties(model: LoadedModel, setup: Setup, *, on_step: OnStep = no_progress) -> TieChoice:
    """Choose neighbouring RoPE pairs to tie, so that a search may mix them by maps: what each group costs and buys.

    Search with `maps=True` under a setup whose rope has them: `qroar.Rope("yarn", factor=2, tie=choice.tie)`.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: as for `search`; K has to be quantized. Pairs that it ties already are taken for untied.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        The groups with their costs; `plot`, `table` and `summary` show them. Without groups, no tie pays.
    Raises:
        BadSpec: a layout that takes no maps, or a quantizer under which K is not read rounded.
        BadText: too little text. Cancelled: raised by `on_step`.
    """
    return TieChoice.of(choose_stage.run(model, resolved(model, setup, on_step), setup.texts(), on_step).as_written())


@in_parameters
def search(
    model: LoadedModel,
    setup: Setup,
    *,
    diagnosis: PlainDiagnosis | None = None,
    angles: bool = False,
    maps: bool = False,
    k_offset: bool = False,
    value_maps: bool = False,
    polish: bool = False,
    mode: Mode = "symmetric",
    granularity: Granularity | None = None,
    objective: str = "cached",
    windows: int | None = None,
    spec: SearchSpec | None = None,
    on_step: OnStep = no_progress,
) -> Search:
    """Search one scale a band for W_Q and W_K; identity is kept unless development text shows a gain.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: interpolation, quantizers, context length, bands and text; what it leaves open is filled in for `model`.
        diagnosis: of this model under this setup: inflated tails widen the bounds of their bands; without one the
            pressure alone sets them.
        angles: also search one angle a RoPE pair.
        maps: and a matrix for each group of channels that turn alike (tied pairs); angles come with it.
        k_offset: also take a constant off K's channels that do not turn (pairs tied to stand still, channels past the
            rotated ones), which no softmax sees.
        value_maps: also a matrix for V of each KV head, its inverse in W_O, for a quantized V cache.
        polish: first change W_Q and W_K's rows of tied pairs, so that the tie costs less. This changes the model.
        mode: `symmetric` (q times g, k divided by it: exact in full precision) or `shared` (both times g).
        granularity: one set of scales a `model`, `layer` or `kv_head`; None: the finest that is exact for this family.
        objective: `cached` (the error of attention on captured text), `full` (NLL) or `kl` (to the whole model).
        windows: windows of calibration text; None: 6, or as many as the text holds.
        spec: everything else that can be asked (`qroar_core.specs.SearchSpec`), in place of what is said here.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        What was found, and in `transform` what is worth keeping.
    Raises:
        BadText: too little text. BadSpec: an objective that cannot see the quantizer, or a diagnosis of another model,
            interpolation, quantizer or other bands.
        Cancelled: raised by `on_step`; its `partial` is the best so far, a `scale_search.outcome.SearchOutcome`.
    """
    setting = resolved(model, setup, on_step)
    asked = spec_of(spec, SearchSpec) or replace(
        setting.search,
        angles=angles or maps,
        maps=maps,
        k_offset=k_offset,
        value_maps=value_maps,
        polish=polish,
        mode=mode,
        granularity=granularity or setting.search.granularity,
        objective=objective,
        windows=setting.search.windows if windows is None else windows,
        fewer=windows is None,
    )
    setting = replace(setting, search=asked)
    check_diagnosis(diagnosis, model, setting)
    outcome = search_stage.run(model, setting, setup.texts(), diagnosis, on_step).as_written()
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


@in_parameters
def export(
    model: LoadedModel,
    setup: Setup,
    transform: Transform | None,
    folder: str | Path,
    *,
    format: str = "hf",
    group_size: int | None = None,
    cache_scales: bool = False,
    on_step: OnStep = no_progress,
) -> Path:
    """Write a checkpoint with the transform in W_Q and W_K and the interpolation in its config; returns its folder.

    Args:
        model: what `load` returned.
        setup: whose interpolation goes into the config; its quantizers are the runtime's, and not written.
        transform: None, or identity: the interpolation alone.
        folder: must not exist yet.
        format: `hf` (transformers, vLLM), `w4a16` (vLLM), `gguf-f16`, `gguf-bf16`, `gguf-q8_0`, `gguf-q4_0`
            (llama.cpp), `quantized` (the folder's own codes, scaled).
        group_size: inputs of a row that share a scale, of `w4a16` alone.
        cache_scales: also a k_scale and a v_scale a layer for an fp8 K/V cache, as vLLM and SGLang read them, measured
            on the setup's calibration text; for a setup with the cache `fp8-calibrated`, in `hf` and `w4a16`.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        The folder.
    Raises:
        BadOutput: the folder exists or cannot be written. BadSpec: a format this model cannot be written in.
        BadScales: a transform of another model. NonFinite: a weight that the format cannot hold.
        BadText: too little text for `cache_scales`. Cancelled: raised by `on_step`.
    """
    of_kind("folder", folder, (str, Path), "a path", "name a folder that does not exist yet")
    setting = resolved(model, setup, on_step)
    rope, length = setting.rope, setting.search.length or 0
    scales = scales_of(transform, model)
    if group_size is not None and format in FORMATS and not FORMATS[format].takes_group_size:
        raise BadSpec(f"{format} has no group size", where="export(group_size=...)", do="drop it, or take w4a16")
    found = None
    if cache_scales:
        where, do = "export(cache_scales=...)", 'take quantization(kv="fp8-calibrated")'
        writer_of(format)  # refuses an unknown one
        require_scaled_cache(setting.quant, format, where, do)
        texts = setup.texts()["calibration"]
        found = cache_scales_of(format, model, rope, scales, texts, length, group_size=group_size, seed=setup.seed)
    write = writer_of(format, group_size=group_size, cache_scales=found)
    return write(model, rope, scales, folder, on_step=on_step)
