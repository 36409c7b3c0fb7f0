"""From meters to the logit noise of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qroar_core.diagnostics.listed import listed
from qroar_core.diagnostics.logit_noise.measure import LogitNoise as Noise
from qroar_core.diagnostics.logit_noise.measure import LogitNoiseMeter
from qroar_core.diagnostics.logit_noise.result import LogitNoise, NoiseCurves


def noise_of(meters: list[LogitNoiseMeter | None], kind: str) -> LogitNoise:
    """Layers pooled for the curves, kept apart for the map."""
    found = [m.result() for m in meters if m is not None]
    return LogitNoise(
        position=found[0].position.tolist(),
        distance=found[0].distance.tolist(),
        by_layer=listed(torch.stack([f.rms for f in found])),
        kl_by_layer=listed(torch.stack([f.kl for f in found])),
        by_band=listed(torch.stack([f.rms_by_band.square().mean(0).sqrt() for f in found])),
        kind=kind,
        **dict(noise_curves(found)),
    )


def noise_curves(found: Sequence[Noise], rotated: bool = True) -> NoiseCurves:
    """Layers pooled: RMS of RMS, mean of KL. Without rotation there are no bands."""

    def rms(parts: list[Tensor]) -> Any:
        return listed(torch.stack(parts).square().nanmean(0).sqrt())

    return NoiseCurves(
        rms=rms([f.rms for f in found]),
        attention_kl=listed(torch.stack([f.kl for f in found]).mean(0)),
        rms_by_distance=rms([f.rms_by_distance for f in found]),
        by_band_position=rms([f.rms_by_band.T for f in found]) if rotated else [],
        by_band_distance=rms([f.band_rms_by_distance for f in found]) if rotated else [],
    )
