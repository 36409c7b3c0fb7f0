"""What an interpolation does to each group of layers: bands, pairs and kernel, counted as far as the group sees.

A sliding window of W tokens bounds every distance the layers meet, in training and now: pressures are averaged
over distances under W, and no phase or side peak past it counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from qroar_core.diagnostics.aliasing.result import AliasingKernel, NativeKernel
from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter
from qroar_core.diagnostics.anisotropy.table import anisotropy_of
from qroar_core.diagnostics.bands.result import Band, Pairs
from qroar_core.diagnostics.logit_noise.measure import LogitNoiseMeter
from qroar_core.diagnostics.logit_noise.table import noise_curves
from qroar_core.diagnostics.pair_error.measure import PairErrorMeter
from qroar_core.diagnostics.pair_error.table import pair_errors_of
from qroar_core.diagnostics.pressure.observe import PressureRecorder
from qroar_core.diagnostics.pressure.result import LogitChange
from qroar_core.diagnostics.pressure.table import logit_change_of
from qroar_core.diagnostics.result import LayerGroupDiagnosis
from qroar_core.diagnostics.sample import AnyResult, about_errors
from qroar_core.diagnostics.tensor_lists import listed
from qroar_core.interpolations.bands import Bands, turns_per_window
from qroar_core.interpolations.frequencies import LayerGroupRope
from qroar_core.interpolations.pressure import (
    frequency_slope,
    interpolation_pressure,
    mean_distance,
    phase_displacement,
)
from qroar_core.interpolations.tie import wavelength_of
from qroar_core.maths.aliasing import band_kernel, compression, unseen_phase_fraction
from qroar_core.models.geometry import Geometry
from qroar_core.models.layer_groups import layer_groups
from qroar_core.result import PerBand
from qroar_core.specs import DiagnosisSpec

KERNEL_POINTS = 512


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Every layer's meters of what quantization does to q and k; None where it does not touch them."""

    noise: Sequence[LogitNoiseMeter | None] | None
    pairs: Sequence[PairErrorMeter] | None
    anisotropy: Sequence[AnisotropyMeter] | None
    compares: str = ""  # which error, and how many of the newest keys the cache holds exactly
    still_exact: int = 0
    before_rope: bool = False  # whether K is rounded before RoPE

    def of(self, layers: Sequence[int], rotated: bool) -> dict[str, Any]:
        """The fields of a LayerGroupDiagnosis that these layers fill; what speaks of pairs only where they turn."""
        noise = [meter.result() for meter in _picked(self.noise, layers) if meter is not None]
        pairs, anisotropy = (_picked(meters, layers if rotated else ()) for meters in (self.pairs, self.anisotropy))
        return {
            "noise": noise_curves(noise, noise if rotated else []) if noise else None,
            "pair_error": self.about(pair_errors_of(pairs)) if pairs else None,
            "anisotropy": self.about(anisotropy_of(anisotropy, before_rope=self.before_rope)) if anisotropy else None,
        }

    def about(self, found: AnyResult) -> AnyResult:
        """What compares keys, with a sample that says which error it is and on which of them."""
        return about_errors(found, self.compares, self.still_exact)


def _picked(meters: Sequence[Any] | None, layers: Sequence[int]) -> list[Any]:
    return [] if meters is None else [meters[layer] for layer in layers]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """What the groups are counted with."""

    geometry: Geometry
    bands: Bands
    length: int  # L, tokens
    spec: DiagnosisSpec
    pressure: PressureRecorder
    errors: Errors


def groups_of(turnings: Sequence[LayerGroupRope], by: Counted) -> list[LayerGroupDiagnosis]:
    """Every group of layers, rotated ones as in `turnings`, then those without RoPE."""
    out = [_rotated(turning, by) for turning in turnings]
    still = [group for group in layer_groups(by.geometry) if not group.rotated]
    return out + [
        LayerGroupDiagnosis(
            name=g.name,
            layers=list(g.layers),
            theta=None,
            window=g.window,
            interpolated=False,
            reach=g.reach(by.length),
            bands=[],
            pairs=None,
            kernel=None,
            **by.errors.of(g.layers, rotated=False),
        )
        for g in still
    ]


def _rotated(turning: LayerGroupRope, by: Counted) -> LayerGroupDiagnosis:
    group = turning.group
    reach = group.reach(by.length)
    change, parts = logit_change_of(by.pressure, group.layers)
    pairs = _pairs(turning, by, parts)
    kernel = _kernel(turning, by)
    return LayerGroupDiagnosis(
        name=group.name,
        layers=list(group.layers),
        theta=group.theta,
        window=group.window,
        interpolated=group.interpolated,
        reach=reach,
        bands=_bands(by.bands, pairs, kernel.side_peak, change),
        pairs=pairs,
        kernel=kernel,
        logit_change=change,
        **by.errors.of(group.layers, rotated=True),
    )


def _kernel(turning: LayerGroupRope, by: Counted) -> AliasingKernel:
    """Under the interpolation as far as the group sees, and natively as far as it saw in training."""
    at, group = turning.at, turning.group
    found = band_kernel(at.scaled, by.bands, group.reach(by.length), KERNEL_POINTS)
    null = band_kernel(at.native, by.bands, group.reach(at.original_context), KERNEL_POINTS)
    return AliasingKernel(
        distance=found.distance.tolist(),
        low=listed(found.low),
        high=listed(found.high),
        side_peak_at=found.side_peak_at.tolist(),
        side_peak=listed(found.side_peak),
        null=NativeKernel(
            distance=null.distance.tolist(),
            high=listed(null.high),
            side_peak=listed(null.side_peak),
            side_peak_at=null.side_peak_at.tolist(),
        ),
    )


def _pairs(turning: LayerGroupRope, by: Counted, parts: list[float]) -> Pairs:
    group, at = turning.group, turning.at
    native, scaled, trained = at.native, at.scaled, at.original_context
    distance = mean_distance(by.length, by.spec.law, group.window)
    return Pairs(
        native_inv_freq=listed(native),
        inv_freq=listed(scaled),
        turns=listed(turns_per_window(native, trained)),
        interpolation_pressure=listed(interpolation_pressure(frequency_slope(at), distance)),
        phase_displacement=listed(phase_displacement(native, scaled, distance)),
        logit_weighted_pressure=parts,
        unseen_phase=listed(unseen_phase_fraction(native, scaled, group.reach(trained), group.reach(by.length))),
        attention_factor=turning.attention_factor,
    )


def _bands(bands: Bands, pairs: Pairs, side_peak: PerBand, change: LogitChange) -> list[Band]:
    ratio = compression(torch.tensor(pairs.native_inv_freq), torch.tensor(pairs.inv_freq))
    out = []
    for b, (first, last) in enumerate(bands):
        here = slice(first, last + 1)

        def mean(values: list[float], here: slice = here) -> float:
            return math.fsum(values[here]) / len(values[here])

        out.append(
            Band(
                index=b,
                first_pair=first,
                last_pair=last,
                wavelength_min=wavelength_of(max(pairs.inv_freq[here])),
                wavelength_max=wavelength_of(min(pairs.inv_freq[here])),
                turns=mean(pairs.turns),
                interpolation_pressure=mean(pairs.interpolation_pressure),
                phase_displacement=mean(pairs.phase_displacement),
                logit_weighted_pressure=math.fsum(pairs.logit_weighted_pressure[here]),
                side_peak=side_peak[b],
                unseen_phase=mean(pairs.unseen_phase),
                compression=float(ratio[here].mean()),
                native_wavelength_min=wavelength_of(max(pairs.native_inv_freq[here])),
                native_wavelength_max=wavelength_of(min(pairs.native_inv_freq[here])),
                logit_change=change.by_band[b],
                logit_change_error=change.error[b],
            )
        )
    return out
