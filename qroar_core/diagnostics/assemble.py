"""From meters to `Diagnosis`: every number rounded to what a file needs, averaged where the name says so."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from qroar_core.diagnostics.anisotropy.observe import AnisotropyRecorder
from qroar_core.diagnostics.anisotropy.table import anisotropy_of
from qroar_core.diagnostics.bands.observe import BandCostRecorder
from qroar_core.diagnostics.bands.table import band_cost_of
from qroar_core.diagnostics.dilation.observe import DilationRecorder
from qroar_core.diagnostics.dilation.table import dilation_of
from qroar_core.diagnostics.layer_groups import Counted, Errors, groups_of
from qroar_core.diagnostics.logit_noise.observe import LocalNoise, PropagatedNoise
from qroar_core.diagnostics.logit_noise.table import noise_of
from qroar_core.diagnostics.measurement import SIDES, Measurement, OtherRecorder, Rounding
from qroar_core.diagnostics.outliers.measure import Deal
from qroar_core.diagnostics.outliers.observe import OutlierRecorder
from qroar_core.diagnostics.outliers.table import compared, outliers_of
from qroar_core.diagnostics.outliers.weights import matrices_of, unavailable
from qroar_core.diagnostics.pair_error.observe import PairErrorRecorder
from qroar_core.diagnostics.pair_error.table import pair_errors_of
from qroar_core.diagnostics.pressure.observe import PressureRecorder
from qroar_core.diagnostics.registry import others
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.result_measured import MeasuredOn
from qroar_core.diagnostics.rounding.observe import RoundingRecorder
from qroar_core.diagnostics.rounding.table import roundings_of
from qroar_core.diagnostics.sample import LOCAL, PROPAGATED, of_unquantized
from qroar_core.diagnostics.similarity.measure import SimilarityMeter
from qroar_core.diagnostics.similarity.table import similarity_of
from qroar_core.diagnostics.tail_inflation.observe import PairedTails
from qroar_core.diagnostics.tail_inflation.table import survival_of, tail_table
from qroar_core.interpolations.frequencies import LayerGroupRope
from qroar_core.maths.positions import Sampled
from qroar_core.models.applicability import applicability_on
from qroar_core.models.loaded import LoadedModel
from qroar_core.quantizers.exact_keys import still_exact
from qroar_core.specs import QuantSpec, RopeSpec
from qroar_core.transforms.scales import Scales


@dataclass(frozen=True, slots=True, eq=False)
class Recorders:
    """What is measured of q and k; None where nothing changes them, and LocalNoise too where errors propagate."""

    outliers: OutlierRecorder
    dilation: DilationRecorder
    pressure: PressureRecorder
    anisotropy: AnisotropyRecorder | None
    pair_errors: PairErrorRecorder | None
    rounding: RoundingRecorder | None
    noise: LocalNoise | None
    propagated: PropagatedNoise | None  # set: the quantized pass feeds it, and anisotropy and pair errors
    band_cost: BandCostRecorder
    others: dict[str, OtherRecorder]  # of diagnostics that fill no field of Diagnosis, by their names

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        rounding: Rounding,
        turnings: tuple[LayerGroupRope, ...],
        rows: Sampled,
        short_length: int,
    ) -> Recorders:
        """All that this measurement asks for."""
        propagates = rounding.quant.changes_projections
        compares = propagates or rounding.rounds_keys(measurement.length)
        halves = compared(measurement.short_bins(short_length), measurement.bins.count)
        kinds: dict[str, type[OtherRecorder]] = {name: _recorder_type(name) for name in others()}
        deal = Deal(measurement.bins, *halves, measurement.spec.null_draws, measurement.spec.seed) if halves else None
        return cls(
            OutlierRecorder(measurement, deal, rounding.rounds_logits, propagates),
            DilationRecorder(measurement),
            PressureRecorder(measurement, turnings),
            AnisotropyRecorder(measurement) if compares else None,
            PairErrorRecorder(measurement) if compares else None,
            RoundingRecorder(measurement, propagates or rounding.quant.qk is not None, propagates)
            if compares
            else None,
            LocalNoise(measurement, rounding, rows) if rounding.rounds_logits and not propagates else None,
            PropagatedNoise(measurement, rows) if propagates else None,
            BandCostRecorder(measurement, rows),
            {name: recorder(measurement) for name, recorder in kinds.items()},
        )

    def of_keys(self) -> list[Any]:
        """Those that compare keys one by one."""
        every = (self.anisotropy, self.pair_errors, self.rounding)
        return [recorder for recorder in every if recorder is not None]

    def of_quantized_pass(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Those that a quantized pass feeds: with keys one by one, with whole layers, with every query."""
        assert self.rounding is not None
        return [*self.of_keys(), self.outliers], [self.propagated, self.rounding], [self.rounding]

    def on_long_pass(self) -> list[Any]:
        """Those that ride on the long pass."""
        local = [] if self.propagated else [*self.of_keys(), *([self.noise] if self.noise else [])]
        return [self.outliers, self.dilation, self.pressure, self.band_cost, *self.others.values(), *local]


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """What the passes left behind."""

    turnings: tuple[LayerGroupRope, ...]  # of the groups of layers that turn
    long: PairedTails
    local: Recorders
    short: PairedTails
    native: PairedTails | None
    hidden: SimilarityMeter | None
    scales: Scales | None


def assemble(
    loaded: LoadedModel,
    rope: RopeSpec,
    quant: QuantSpec,
    plan: Any,
    measurement: Measurement,
    passes: Passes,
    seconds: dict[str, float],
) -> Diagnosis:
    """The stage's result. `plan` is diagnostics.run.DiagnosisPlan."""
    geo, local = loaded.geometry, passes.local
    measured = local.propagated or local.noise
    noise = measured.meters if measured else None
    pairs = local.pair_errors.meters if local.pair_errors else None
    angles = local.anisotropy.meters if local.anisotropy else None
    compares = PROPAGATED if local.propagated else LOCAL
    before_rope = quant.k is not None and quant.k.before_rope
    errors = Errors(noise, pairs, angles, compares, still_exact(quant, plan.length), before_rope)
    counted = Counted(geo, measurement.bands, plan.length, plan.spec, local.pressure, errors)
    groups = groups_of(passes.turnings, counted)
    first = groups[0]
    assert first.pairs is not None  # groups that turn come first, and a model without any is refused when loaded
    assert first.kernel is not None
    tails = {
        side: tail_table(
            passes.long.tails[side],
            passes.short.tails[side],
            passes.native.tails[side] if passes.native else None,
            plan.spec,
        )
        for side in SIDES
    }
    early = measurement.short_bins(plan.short_length)
    turning = [layer for layer in range(geo.n_layers) if layer not in geo.without_rope]
    found = Diagnosis(
        bands=first.bands,
        tail_inflation={
            side: {x: _largest_over_heads(tails[f"{x}/{side}"].ratio) for x in ("q", "k")} for side in ("pre", "post")
        },
        logit_noise=noise_of(noise, compares, geo.without_rope) if noise else None,
        pair_error=errors.about(pair_errors_of([pairs[i] for i in turning])) if pairs else None,
        verdict=applicability_on(geo, quant, "symmetric", measurement.bands, length=plan.length),
        pairs=first.pairs,
        kernel=first.kernel,
        logit_change=first.logit_change,
        groups=groups if len(groups) > 1 else [],
        tails=tails,
        survival={side: survival_of(passes.long.tails[side], passes.short.tails[side], plan.spec) for side in SIDES},
        dilation=dilation_of(local.outliers.maps["k/post"], local.dilation, measurement.channel_band, early),
        anisotropy=errors.about(anisotropy_of(angles, geo.without_rope, before_rope)) if angles else None,
        rounding=errors.about(
            roundings_of(local.rounding.k, local.rounding.q, geo.without_rope, local.rounding.propagates)
        )
        if local.rounding
        else None,
        outliers=outliers_of(
            local.outliers.maps,
            local.outliers.errors,
            local.outliers.own,
            local.outliers.deal,
            measurement.channel_band,
            plan.spec,
            geo.without_rope,
            matrices_of(loaded, passes.scales, quant.weights),
            unavailable(loaded),
            still_exact(quant, plan.length),
            local.propagated is not None and bool(local.outliers.own),
        ),
        band_cost=band_cost_of(local.band_cost),
        hidden=similarity_of(passes.hidden, plan.spec.seed) if passes.hidden else None,
        position_edges=measurement.bins.edges(),
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
        measured=MeasuredOn.of(loaded.name, loaded.fingerprint, rope, quant),
        others={name: recorder.result() for name, recorder in local.others.items()},
        seconds=seconds,
    )
    return found if quant.is_none else _of_unquantized(found)


def _of_unquantized(found: Diagnosis) -> Diagnosis:
    """What is of the unquantized model's q and k says so, whatever of the setting is quantized."""
    one = {name: getattr(found, name) for name in ("logit_change", "dilation", "outliers", "band_cost")}
    groups = [
        g if g.logit_change is None else g.model_copy(update={"logit_change": of_unquantized(g.logit_change)})
        for g in found.groups
    ]
    by_name = ("tails", "survival", "others")
    tables = {name: {at: of_unquantized(t) for at, t in getattr(found, name).items()} for name in by_name}
    single = {name: of_unquantized(value) for name, value in one.items() if value is not None}
    return found.model_copy(update=single | tables | {"groups": groups})


def _largest_over_heads(ratio: list) -> list:
    """[layer][kv_head][band] -> [layer][band], the largest; None counts as no data."""
    return [
        [max((head[b] for head in heads if head[b] is not None), default=None) for b in range(len(heads[0]))]
        for heads in ratio
    ]


def _recorder_type(name: str) -> type[OtherRecorder]:
    """What measures a diagnostic that fills no field of `Diagnosis`: its folder's `measure.RECORDER`."""
    found: type[OtherRecorder] = import_module(f"qroar_core.diagnostics.{name}.measure").RECORDER
    return found
