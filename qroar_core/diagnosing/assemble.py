"""From meters to `Diagnosis`: every number rounded to what a file needs, averaged where the name says so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qroar_core.diagnosing.tensors import dilation_of, listed, noise_of, outliers_of, pair_errors_of, survival_of
from qroar_core.maths.aliasing import band_kernel, compression, unseen_phase_fraction
from qroar_core.maths.bands import turns_per_window
from qroar_core.maths.pressure import (
    Interpolation,
    frequency_slope,
    interpolation_pressure,
    mean_distance,
    phase_displacement,
)
from qroar_core.maths.rescale import Scales
from qroar_core.maths.similarity import SimilarityMeter
from qroar_core.maths.tails import tail_inflation
from qroar_core.maths.verdict import verdict
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.observe import SIDES, Frame, LongContext, PairedTails
from qroar_core.models.observe_quantized import PropagatedNoise
from qroar_core.results.diagnosis import (
    Anisotropy,
    Band,
    Diagnosis,
    HiddenSimilarity,
    Kernel,
    Pairs,
    TailTable,
)
from qroar_core.specs import QuantSpec, RopeSpec

KERNEL_POINTS = 512


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """What the passes left behind."""

    at: Interpolation
    scaled: Tensor  # inv_freq under the interpolation, float64
    attention_factor: float
    long: PairedTails
    local: LongContext
    short: PairedTails
    native: PairedTails | None
    hidden: SimilarityMeter | None
    propagated: PropagatedNoise | None
    scales: Scales | None


def assemble(loaded: LoadedModel, rope: RopeSpec, quant: QuantSpec, plan: Any, frame: Frame, passes: Passes,
             seconds: dict[str, float]) -> Diagnosis:  # fmt: skip
    """The stage's result. `plan` is diagnose.Plan."""
    geo, local = loaded.geometry, passes.local
    pairs, weighted = _pairs(frame, passes, plan, geo.original_context)
    kernel = band_kernel(passes.scaled, frame.bands, plan.length, KERNEL_POINTS)
    tails = {side: _tails(passes, side, plan.spec.eps, plan.spec.paired) for side in SIDES}
    measured = local.rounds_logits
    return Diagnosis(
        bands=_bands(frame, pairs, kernel.side_peak, weighted),
        tail_inflation={
            side: {x: _largest_over_heads(tails[f"{x}/{side}"].ratio) for x in ("q", "k")} for side in ("pre", "post")
        },
        logit_noise=noise_of(passes.propagated.noise, "propagated through the model")
        if passes.propagated
        else (noise_of(local.noise, "local to each layer's own q and k") if measured else None),
        pair_error=pair_errors_of(local.pair_errors) if quant.k or quant.qk else None,
        verdict=verdict(
            quant,
            "symmetric",
            bands=frame.bands,
            head_dim=geo.head_dim,
            rotary_dim=geo.rotary_dim,
            pairing=geo.pairing,
            scaled_gain=geo.scaled_gain,
        ),
        pairs=pairs,
        kernel=Kernel(
            distance=kernel.distance.tolist(),
            low=listed(kernel.low),
            high=listed(kernel.high),
            side_peak_at=kernel.side_peak_at.tolist(),
        ),
        tails=tails,
        survival={side: survival_of(passes.long.tails[side], passes.short.tails[side]) for side in SIDES},
        dilation=dilation_of(local, frame, plan.short_length),
        anisotropy=_anisotropy(local) if measured else None,
        outliers=outliers_of(local, frame, plan.short_length),
        hidden=_hidden(passes.hidden),
        position_edges=frame.bins.edges(),
        length=plan.length,
        short_length=plan.short_length,
        windows=len(plan.ends),
        paired_tokens=plan.spec.paired_tokens,
        eps=plan.spec.eps,
        pairing=geo.pairing,
        rotary_dim=geo.rotary_dim,
        head_dim=geo.head_dim,
        n_kv_heads=geo.n_kv_heads,
        scales_mode=passes.scales.mode if passes.scales is not None else None,
        text=plan.text,
        seconds=seconds,
    )


def _pairs(frame: Frame, passes: Passes, plan: Any, original_context: int) -> tuple[Pairs, Tensor]:
    native, scaled = passes.at.native, passes.scaled
    distance = mean_distance(plan.length, plan.spec.law)
    weighted = torch.stack([m.result().by_pair for m in passes.local.pressure if m is not None])  # (layers, KV, r/2)
    mean = weighted.mean((0, 1))
    slope = frequency_slope(passes.at)
    return Pairs(
        native_inv_freq=listed(native),
        inv_freq=listed(scaled),
        turns=listed(turns_per_window(native, original_context)),
        interpolation_pressure=listed(interpolation_pressure(slope, distance)),
        phase_displacement=listed(phase_displacement(native, scaled, distance)),
        logit_weighted_pressure=listed(mean),
        unseen_phase=listed(unseen_phase_fraction(native, scaled, original_context, plan.length)),
        attention_factor=passes.attention_factor,
    ), mean


def _bands(frame: Frame, pairs: Pairs, side_peak: Tensor, weighted: Tensor) -> list[Band]:
    ratio = compression(torch.tensor(pairs.native_inv_freq), torch.tensor(pairs.inv_freq))
    out = []
    for b, (first, last) in enumerate(frame.bands):
        here = slice(first, last + 1)

        def mean(values: list[float], here: slice = here) -> float:
            return math.fsum(values[here]) / len(values[here])

        peak = float(side_peak[b])
        out.append(
            Band(
                index=b,
                first_pair=first,
                last_pair=last,
                wavelength_min=2 * math.pi / max(pairs.inv_freq[here]),
                wavelength_max=2 * math.pi / min(pairs.inv_freq[here]),
                turns=mean(pairs.turns),
                interpolation_pressure=mean(pairs.interpolation_pressure),
                phase_displacement=mean(pairs.phase_displacement),
                logit_weighted_pressure=float(weighted[here].sum()),
                side_peak=peak if math.isfinite(peak) else None,
                unseen_phase=mean(pairs.unseen_phase),
                compression=float(ratio[here].mean()),
            )
        )
    return out


def _tails(passes: Passes, side: str, eps: float, paired: bool) -> TailTable:
    layers = range(len(passes.long.tails[side]))
    found = [
        tail_inflation(passes.long.tails[side][i], passes.short.tails[side][i], eps, paired=paired, seed=i)
        for i in layers
    ]
    native = None
    if passes.native is not None:
        again = passes.native.tails[side]
        native = listed(
            torch.stack(
                [
                    tail_inflation(passes.long.tails[side][i], again[i], eps, paired=paired, resamples=1).ratio
                    for i in layers
                ]
            )
        )
    table = {
        name: listed(torch.stack([getattr(t, name) for t in found]))
        for name in ("ratio", "low", "high", "long", "short")
    }
    return TailTable(native=native, **table)


def _largest_over_heads(ratio: list) -> list:
    """[layer][kv_head][band] -> [layer][band], the largest; None counts as no data."""
    return [
        [max((head[b] for head in heads if head[b] is not None), default=None) for b in range(len(heads[0]))]
        for heads in ratio
    ]


def _anisotropy(local: LongContext) -> Anisotropy:
    found = [m.result() for m in local.anisotropy]
    return Anisotropy(
        angle=listed(found[0].angle),
        error=listed(torch.stack([f.error for f in found]).nanmean(0)),
        ratio=listed(torch.stack([f.ratio for f in found])),
    )


def _hidden(meter: SimilarityMeter | None) -> HiddenSimilarity | None:
    if meter is None:
        return None
    found = meter.result()
    return HiddenSimilarity(cosine=listed(found.cosine), sqnr_db=listed(found.sqnr_db))
