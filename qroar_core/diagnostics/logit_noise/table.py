"""From meters to the logit noise of the result."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from qroar_core.diagnostics.logit_noise.measure import LayerLogitNoise, LogitNoiseMeter
from qroar_core.diagnostics.logit_noise.result import LogitNoise, NoiseCurves, NoiseNull
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.standard_error import root_error
from qroar_core.diagnostics.tensor_lists import listed


def noise_of(meters: list[LogitNoiseMeter | None], kind: str, still: Collection[int] = ()) -> LogitNoise:
    """Layers pooled for the curves, kept apart for the map. `still`: layers without RoPE, which have no bands."""
    seen = {layer: meter.result() for layer, meter in enumerate(meters) if meter is not None}
    found = list(seen.values())
    turning = [noise for layer, noise in seen.items() if layer not in still]
    bands = found[0].rms_by_band.shape[1]
    rows = [_by_band(noise, bands if layer not in still else 0) for layer, noise in seen.items()]
    by_band, rest, null_by_band, null_rest = (torch.stack(x) for x in zip(*rows, strict=True))
    has_rest = bool(rest.isfinite().any())
    position = found[0].position.tolist()
    return LogitNoise(
        position=position,
        distance=found[0].distance.tolist(),
        by_layer=listed(torch.stack([f.rms for f in found])),
        kl_by_layer=listed(torch.stack([f.kl for f in found])),
        by_band=listed(by_band),
        unrotated=listed(rest) if has_rest else [],
        logit_std_by_layer=listed(torch.stack([f.logit_std for f in found])),
        noise_std_by_layer=listed(torch.stack([f.noise_std for f in found])),
        null_by_layer=listed(torch.stack([f.null[:, -1] for f in found])),
        null_chance_by_layer=listed(torch.stack([f.null_chance[-1] for f in found]).sqrt()),
        null_kl_by_layer=listed(torch.stack([f.null_kl for f in found])),
        null_by_band=listed(null_by_band),
        null_unrotated=listed(null_rest) if has_rest else [],
        kind=kind,
        sample=Sample(tokens=position[-1] + 1, rows=len(position)),
        **dict(noise_curves(found, turning)),
    )


def _by_band(noise: LayerLogitNoise, bands: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RMS over rows by band and of what is in no band, NaN where there is none, and both of the null.

    Of a layer that does not turn (`bands` 0) all of it is in no band.
    """
    by_band, null = _over_rows(noise.rms_by_band), _over_rows(noise.null)
    null_bands, nothing = null[: len(by_band)], by_band.new_tensor(torch.nan)
    if not bands:
        empty = torch.full_like(by_band, torch.nan)
        return empty, _over_rows(noise.rms), empty, null[-1]
    if noise.rest_rms is None:
        return by_band, nothing, null_bands, nothing
    return by_band, _over_rows(noise.rest_rms), null_bands, null[bands]


def _distance_error(found: Sequence[LayerLogitNoise]) -> Any:
    """Standard error of the pooled RMS by distance: layers share their rows, so a row's residuals go together."""
    mean = torch.stack([f.rms_by_distance for f in found]).square().nanmean(0)
    return listed(root_error(mean, torch.stack([f.distance_residual for f in found]).nanmean(0)))


def _chance(turning: Sequence[LayerLogitNoise], bands: int) -> Any:
    """Standard deviation over drawn errors of each band's mean square over rows and layers, whose errors differ."""
    if not turning:
        return []
    return listed(torch.stack([f.null_chance[:bands] for f in turning]).sum(0).sqrt() / len(turning))


def _over_rows(x: Tensor) -> Tensor:
    return x.square().mean(0).sqrt()


def noise_curves(found: Sequence[LayerLogitNoise], turning: Sequence[LayerLogitNoise]) -> NoiseCurves:
    """Layers pooled: RMS of RMS, mean of KL. Bands, and the channels beside them, of the layers that turn alone."""

    def rms(parts: Sequence[Tensor]) -> Any:
        return listed(torch.stack(list(parts)).square().nanmean(0).sqrt())

    def of_turning(parts: Sequence[Tensor | None]) -> Any:
        known = [part for part in parts if part is not None]
        return rms(known) if known else []

    bands = found[0].rms_by_band.shape[1]
    rest = [noise for noise in turning if noise.rest_rms is not None]
    return NoiseCurves(
        rms=rms([f.rms for f in found]),
        attention_kl=listed(torch.stack([f.kl for f in found]).mean(0)),
        rms_by_distance=rms([f.rms_by_distance for f in found]),
        rms_by_distance_error=_distance_error(found),
        by_band_position=of_turning([f.rms_by_band.T for f in turning]),
        by_band_distance=of_turning([f.band_rms_by_distance for f in turning]),
        unrotated_position=of_turning([f.rest_rms for f in turning]),
        unrotated_distance=of_turning([f.rest_rms_by_distance for f in turning]),
        logit_std=rms([f.logit_std for f in found]),
        noise_std=rms([f.noise_std for f in found]),
        null=NoiseNull(
            rms=rms([f.null[:, -1] for f in found]),
            rms_by_distance=rms([f.null_by_distance[-1] for f in found]),
            noise_std=rms([f.null_std for f in found]),
            attention_kl=listed(torch.stack([f.null_kl for f in found]).mean(0)),
            by_band_position=of_turning([f.null[:, :bands].T for f in turning]),
            by_band_distance=of_turning([f.null_by_distance[:bands] for f in turning]),
            unrotated_position=of_turning([f.null[:, bands] for f in rest]),
            unrotated_distance=of_turning([f.null_by_distance[bands] for f in rest]),
            by_band_chance=_chance(turning, bands),
            one_error_a_query=True,
        ),
    )
