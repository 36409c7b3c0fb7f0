"""What people use already beside this tool's searches, and which layers to keep: compare, protect_layers."""

from __future__ import annotations

from collections.abc import Sequence

from qroar_core.library.arguments import resolved, several, spec_of
from qroar_core.library.refusal_words import in_parameters
from qroar_core.library.results import Comparison, LayerChoice
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep, no_progress
from qroar_core.remedies import layers as layers_stage
from qroar_core.remedies import run as remedies_stage
from qroar_core.setup import Setup
from qroar_core.specs import (
    ComparisonSpec,
)
from qroar_core.specs.layers import LayerChoiceSpec, Sensitivity


@in_parameters
def compare(
    model: LoadedModel,
    setup: Setup,
    *,
    remedies: Sequence[str] = (),
    band_scales: bool = True,
    spec: ComparisonSpec | None = None,
    on_step: OnStep = no_progress,
) -> Comparison:
    """What people use already (rotation, SmoothAttention, KIVI, KVQuant, AWQ, GPTQ), beside this tool's searches.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: interpolation, quantizers, context length, bands and text; what it leaves open is filled in for `model`.
        remedies: which; (): all that apply to what is quantized.
        band_scales: also search band scales under each of them.
        spec: everything else that can be asked (`qroar_core.specs.ComparisonSpec`), in place of what is said here.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        A row a remedy, alone and with band scales: NLL, gain over the plain quantizer, share of the gap.
    Raises:
        BadText: too little text. BadSpec: nothing is quantized, or a remedy that does not apply.
        Cancelled: raised by `on_step`.
    """
    setting = resolved(model, setup, on_step)
    asked = spec_of(spec, ComparisonSpec) or ComparisonSpec(
        methods=several("remedies", remedies),
        band_scales=band_scales,
        search=setting.search,
        windows=setting.evaluation.windows,
        fewer=True,
        seed=setup.seed,
    )
    found = remedies_stage.run(model, setting, asked, setup.texts(), on_step)
    return Comparison.of(found.as_written())


@in_parameters
def protect_layers(
    model: LoadedModel,
    setup: Setup,
    *,
    cache_bytes: float | None = None,
    sensitivity: Sensitivity = "kept",
    windows: int | None = None,
    spec: LayerChoiceSpec | None = None,
    on_step: OnStep = no_progress,
) -> LayerChoice:
    """Choose the layers whose K/V cache is kept from quantization under a memory budget, and judge the choice.

    Go on with them: `dataclasses.replace(setup.quantization, keep_layers=tuple(choice.kept))`.

    Args:
        model: what `load` returned; it is as it was afterwards.
        setup: interpolation, quantizers, context length, bands and text; what it leaves open is filled in for `model`.
        cache_bytes: the most that the cache may take, bytes a token over all layers; None: room for an eighth of the
            layers, two at least.
        sensitivity: what a layer is worth: `kept`, the KL won where only it is kept; `quantized`, the KL lost where
            only it is quantized.
        windows: of development text, which layers are measured on; None: 2.
        spec: everything else that can be asked (`qroar_core.specs.layers.LayerChoiceSpec`), in place of what is said
            here.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        What each layer is worth, loss against bytes a token, and the choice beside the simple rules on held-out text.
    Raises:
        BadText: too little text. BadSpec: no cache is quantized, or a budget that is too small.
        Cancelled: raised by `on_step`.
    """
    setting = resolved(model, setup, on_step)
    asked = spec_of(spec, LayerChoiceSpec) or LayerChoiceSpec(
        cache_bytes=cache_bytes,
        sensitivity=sensitivity,
        windows=LayerChoiceSpec().windows if windows is None else windows,
        heldout_windows=setting.evaluation.windows,
        fewer=True,
        seed=setup.seed,
    )
    return LayerChoice.of(layers_stage.run(model, setting, asked, setup.texts(), on_step).as_written())
