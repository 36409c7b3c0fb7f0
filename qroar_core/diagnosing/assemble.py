"""From meters to `Diagnosis`: every number rounded to what a file needs, averaged where the name says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from qroar_core.diagnosing.groups import Counted, Errors, groups_of
from qroar_core.diagnosing.tensors import (
    anisotropy_of,
    dilation_of,
    listed,
    noise_of,
    outliers_of,
    pair_errors_of,
    survival_of,
)
from qroar_core.maths.rescale import Scales
from qroar_core.maths.similarity import SimilarityMeter
from qroar_core.maths.tails import tail_inflation
from qroar_core.models.acting import verdict_on
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.observe import SIDES, Frame, LongContext, PairedTails
from qroar_core.models.observe_quantized import PropagatedNoise
from qroar_core.models.rope import Turning
from qroar_core.results.diagnosis import Diagnosis, HiddenSimilarity, TailTable
from qroar_core.specs import QuantSpec, RopeSpec

# which error the logit noise is
PROPAGATED, LOCAL = "propagated through the model", "local to each layer's own q and k"


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """What the passes left behind."""

    turnings: tuple[Turning, ...]  # of the groups of layers that turn
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
    measured = local.rounds_logits
    noise = passes.propagated.noise if passes.propagated else local.noise if measured else None
    errors = Errors(noise, local.pair_errors, local.anisotropy) if measured else Errors(noise, None, None)
    groups = groups_of(passes.turnings, Counted(geo, frame.bands, plan.length, plan.spec.law, local.pressure, errors))
    first = groups[0]
    assert first.pairs is not None  # groups that turn come first, and a model without any is refused when loaded
    assert first.kernel is not None
    tails = {side: _tails(passes, side, plan.spec.eps, plan.spec.paired) for side in SIDES}
    turning = [layer for layer in range(geo.n_layers) if layer not in geo.without_rope]
    return Diagnosis(
        bands=first.bands,
        tail_inflation={
            side: {x: _largest_over_heads(tails[f"{x}/{side}"].ratio) for x in ("q", "k")} for side in ("pre", "post")
        },
        logit_noise=noise_of(noise, PROPAGATED if passes.propagated else LOCAL) if noise else None,
        pair_error=pair_errors_of([local.pair_errors[i] for i in turning]) if measured else None,
        verdict=verdict_on(geo, quant, "symmetric", frame.bands),
        pairs=first.pairs,
        kernel=first.kernel,
        groups=groups if len(groups) > 1 else [],
        tails=tails,
        survival={side: survival_of(passes.long.tails[side], passes.short.tails[side]) for side in SIDES},
        dilation=dilation_of(local, frame, plan.short_length),
        anisotropy=anisotropy_of(local.anisotropy, still=geo.without_rope) if measured else None,
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
        decoder_layers=list(geo.decoder_layers),
        scales_mode=passes.scales.mode if passes.scales is not None else None,
        text=plan.text,
        seconds=seconds,
    )


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


def _hidden(meter: SimilarityMeter | None) -> HiddenSimilarity | None:
    if meter is None:
        return None
    found = meter.result()
    return HiddenSimilarity(cosine=listed(found.cosine), sqnr_db=listed(found.sqnr_db))
