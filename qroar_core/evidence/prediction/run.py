"""Do the diagnostics predict? What rounding each band of K (and of q and k) alone costs, beside what was diagnosed.

A band alone: the quantizer rounds the whole vector with the step it always has, and outside the band the exact values
stand. So a band pays its own share of the common step, and the parts can be added up. The cost is NLL on held-out
text, paired over windows; by layer and band it is a second-order estimate (models/sensitivity).
"""

from __future__ import annotations

from dataclasses import asdict, replace

import torch
from torch import Tensor

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.sample import Sample
from qroar_core.errors import BadSpec
from qroar_core.evidence.prediction.findings import (
    REFERENCE,
    WHOLE,
    added_up,
    again,
    costs,
    measured,
    rank,
    ranked,
    sentences,
)
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.interpolations.bands import Bands
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.geometry import Geometry
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import replacing
from qroar_core.models.sensitivity import second_order_kl
from qroar_core.models.text import Documents, windows
from qroar_core.models.window_losses import measure
from qroar_core.progress import OnStep, Step, no_progress, subprogress
from qroar_core.quantizers.exact_keys import what_a_query_reads
from qroar_core.result import LayerBand
from qroar_core.setting import Setting
from qroar_core.specs import PredictionSpec, QuantSpec
from qroar_core.statistics.correlation import spearman

UNROTATED = "unrotated channels"
BACKWARD = 3.0  # forward passes that a window of the map costs, about


def run(
    loaded: LoadedModel,
    setting: Setting,
    spec: PredictionSpec,
    documents: Documents,
    diagnosis: Diagnosis,
    on_step: OnStep = no_progress,
) -> Prediction:
    """Measure every band's own cost and rank it against each diagnostic of `diagnosis`.

    Args:
        documents: held-out text.
        diagnosis: of the same model, RoPE and quantizers; its bands are those asked about.
    Raises:
        BadSpec: quantizers of which a band alone is not defined, or a diagnosis of other bands or layers.
        BadText: too little text.
    """
    rope, quant = setting.rope, setting.quant
    require_bands(quant)
    loaded.geometry.require_cache(quant)
    bands = _bands_of(loaded, diagnosis)
    of_channel = parts_of(loaded.geometry, bands)
    names = [f"band {b}" for b in range(len(bands))]
    pairs: dict[str, tuple[int, int] | None] = dict(zip(names, bands, strict=True))
    if int(of_channel.max()) == len(bands):
        pairs[UNROTATED] = None
    length = spec.length or diagnosis.length
    texts = windows(loaded.tokenizer, documents, length, spec.windows, spec.seed, fewer=spec.fewer, least=2)
    with loaded.lock:
        full = calibrated(loaded, Condition(rope, quant), texts.ids[:1], spec.chunk)
        conditions = {REFERENCE: Condition(rope), WHOLE: full}
        for i, name in enumerate(pairs):
            conditions[name] = replace(full, quantized_channels=(of_channel == i).to(loaded.device))
        near = texts.ids[: spec.grid_windows, : spec.grid_length]
        reading = len(conditions) * texts.ids.numel()
        total = reading + BACKWARD * near.numel()
        nll = {}
        for i, (name, condition) in enumerate(conditions.items()):
            step = subprogress(_as_predict(on_step), i * texts.ids.numel(), (i + 1) * texts.ids.numel(), total)
            nll[name] = measure(
                loaded, condition, texts.ids, length - 1, chunk=spec.chunk, what=_condition_words(name), on_step=step
            ).per_window
        kl: LayerBand = []
        if len(near):
            step = subprogress(_as_predict(on_step), reading, total, total)
            kl = _kl_map(loaded, full, near, of_channel, len(bands), spec.seed, step)
    parts = costs(nll, pairs, spec.confidence)
    (whole,) = costs(nll, {WHOLE: None}, spec.confidence)
    together = added_up(nll, list(pairs), spec.confidence)
    diagnostics = ranked(measured(diagnosis), parts[: len(bands)], kl, spec.confidence)
    summed = [sum(v for v in column if v is not None) for column in zip(*kl)]
    estimate = rank(spearman(summed, [c.nll for c in parts[: len(bands)]], spec.confidence)) if kl else None
    repeated = again(nll, names, spec.confidence)
    return Prediction(
        spec=asdict(spec),
        length=length,
        windows=len(texts),
        confidence=spec.confidence,
        text=f"{texts.counted} of {length} tokens, digest {texts.digest}, seed {spec.seed}{texts.noted}"
        f"{replacing(loaded, rope)}{what_a_query_reads(quant)}",
        parts=parts,
        whole=whole,
        sum=together,
        kl=kl,
        decoder_layers=list(loaded.geometry.decoder_layers),
        kl_windows=len(near),
        kl_length=near.shape[1],
        estimate=estimate,
        repeated=repeated,
        diagnostics=diagnostics,
        window_nll=nll,
        sample=Sample(
            tokens=texts.ids.numel(),
            windows=len(texts),
            seed=spec.seed,
            error=f"bars are {spec.confidence:.0%} intervals, paired over windows",
        ),
        diagnosis_sample=diagnosis.band_cost.sample if diagnosis.band_cost else None,
        **sentences(parts, whole, together, diagnostics, estimate, repeated),
    )


def require_bands(quant: QuantSpec) -> None:
    """Raises BadSpec where rounding one band alone is not defined, or nothing of a band is rounded."""
    if any(other is not None for other in (quant.weights, quant.v, quant.activations)):
        raise BadSpec(
            "only K and the q and k activations have bands; weights, V and linear inputs would cost beside every band",
            where="predict",
            do="quantize K or --qk alone",
        )
    given = [spec for spec in (quant.k, quant.qk) if spec is not None]
    if not given:
        raise BadSpec("nothing is quantized that has bands", where="predict", do="add --k int4 or --qk int8")
    if any(spec.rotation == "hadamard" for spec in given):
        raise BadSpec(
            "behind a Hadamard rotation every level mixes all channels: no band is rounded by itself",
            where="--kv-rotation",
            do="predict without rotation",
        )


def parts_of(geometry: Geometry, bands: Bands) -> Tensor:
    """Part of each channel in each layer: its band, or len(bands) without rotation; int64 (layers, head_dim)."""
    band = geometry.channel_band(bands)
    subprogress = torch.where(band >= 0, band, len(bands)).repeat(geometry.n_layers, 1)
    subprogress[list(geometry.without_rope)] = len(bands)
    return subprogress


def _kl_map(
    loaded: LoadedModel, condition: Condition, ids: Tensor, of_channel: Tensor, count: int, seed: int, on_step: OnStep
) -> LayerBand:
    """[layer][band]; None in layers without RoPE."""
    kl = second_order_kl(loaded, condition, ids, of_channel, seed=seed, on_step=on_step)[:, :count].tolist()
    still = loaded.geometry.without_rope
    return [[None] * count if layer in still else row for layer, row in enumerate(kl)]


def _bands_of(loaded: LoadedModel, diagnosis: Diagnosis) -> Bands:
    geo, bands = loaded.geometry, tuple((b.first_pair, b.last_pair) for b in diagnosis.bands)
    if bands[-1][1] != geo.n_pairs - 1 or len(diagnosis.dilation.absmax) != geo.n_layers:
        raise BadSpec("the diagnosis is of another model", where="predict", do="diagnose this one first")
    return bands


def _condition_words(name: str) -> str:
    return name if name == REFERENCE else f"{name} rounded"


def _as_predict(on_step: OnStep) -> OnStep:
    return lambda step: on_step(Step("predict", step.done, step.total, step.what, step.detail))
