"""Meter by meter: what each gave, as nested lists, averaged over layers where the result says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qroar_core.maths.anisotropy import AnisotropyMeter
from qroar_core.maths.dilation import dilation
from qroar_core.maths.logit_noise import LogitNoise as Noise
from qroar_core.maths.logit_noise import LogitNoiseMeter
from qroar_core.maths.outliers import outlier_shift
from qroar_core.maths.pair_error import PairErrorMeter
from qroar_core.maths.tails import BandTails
from qroar_core.models.observe import PROBES, SIDES, Frame, LongContext
from qroar_core.results.diagnosis import Anisotropy, Dilation, LogitNoise, NoiseCurves, Outliers, PairErrors, Survival

QUANTILES = (0.5, 0.99, 0.999)
RULE = "iqr"
# shares of entries at which the distributions are kept: three a decade, closer about the median
SHARES = (0.9, 0.75, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4)
MAP_DIGITS = 4  # significant digits of the channel maps, the largest part of the file


def listed(x: Tensor) -> Any:
    """Nested lists with None for what is not finite."""
    flat = [v if math.isfinite(v) else None for v in x.double().flatten().tolist()]
    return _nest(flat, tuple(x.shape))


def _nest(flat: list, shape: tuple[int, ...]) -> Any:
    if len(shape) <= 1:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def survival_of(long: list[BandTails], short: list[BandTails]) -> Survival:
    """Distributions of |x| at long and at short context, layer by layer."""
    at_long, at_short = (torch.stack([t.survival(SHARES) for t in side]) for side in (long, short))
    return Survival(
        share=list(SHARES),
        long=listed(_significant(at_long)),
        short=listed(_significant(at_short)),
        body_bound=long[0].body.relative_bound,
    )


def dilation_of(local: LongContext, frame: Frame, short_length: int) -> Dilation:
    """Ranges of K after RoPE by position, against the bins of the short context."""
    reference = _short_bins(frame, short_length)
    found = [dilation(meter.result(), frame.channel_band, reference) for meter in local.maps["k/post"]]
    quantiles = [meter.result(QUANTILES) for meter in local.quantiles]  # (q, bins, bands) each
    return Dilation(
        absmax=listed(torch.stack([f.absmax.amax(0) for f in found])),
        rms=listed(torch.stack([f.rms.square().mean(0).sqrt() for f in found])),
        bits_lost=listed(torch.stack([f.bits_lost.amax(0) for f in found])),
        quantiles={str(q): listed(torch.stack([t[i].T for t in quantiles])) for i, q in enumerate(QUANTILES)},
    )


def outliers_of(local: LongContext, frame: Frame, short_length: int) -> Outliers:
    """Channel maps, how outlier channels move, and what share of the error they carry."""
    early = _short_bins(frame, short_length)
    late = slice(frame.bins.count - max(1, early.stop), frame.bins.count)
    maps, jaccard, moved = {}, {}, {}
    for side in SIDES:
        found = [meter.result() for meter in local.maps[side]]
        maps[side] = listed(_significant(torch.stack([f.maximum for f in found])))
        shifts = [outlier_shift(f, early, late, RULE) for f in found]
        jaccard[side] = listed(torch.stack([s.jaccard for s in shifts]))
        moved[side] = listed(torch.stack([s.mass_moved for s in shifts]))
    shares = [local.outlier_errors[layer].result() for layer in sorted(local.outlier_errors)]
    error = torch.stack([s.error_share for s in shares])  # (layers, variants, KV, bands)
    return Outliers(
        maps=maps,
        rule=RULE,
        jaccard=jaccard,
        mass_moved=moved,
        error_share={name: listed(error[:, i].nanmean(1)) for i, name in enumerate(PROBES)},
        entry_share=listed(torch.stack([s.entry_share for s in shares]).nanmean(1)),
    )


def pair_errors_of(meters: Sequence[PairErrorMeter]) -> PairErrors:
    """Layers pooled: RMS of RMS, mean of shares."""
    found = [m.result() for m in meters]

    def rms(name: str) -> Any:
        return listed(torch.stack([getattr(f, name) for f in found]).square().nanmean(0).sqrt())

    return PairErrors(
        amplitude=rms("amplitude_rms"),
        phase=rms("phase_rms"),
        length_share=listed(torch.stack([f.length_share for f in found]).nanmean(0)),
    )


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


def anisotropy_of(meters: Sequence[AnisotropyMeter], still: Sequence[int] = ()) -> Anisotropy:
    """Mean error by angle over layers, and each layer's worst angle over its best; `still` ones have no pairs."""
    found = [m.result() for m in meters]
    error = torch.stack([f.error for i, f in enumerate(found) if i not in still])
    ratio = torch.stack([f.ratio for f in found])
    ratio[list(still)] = torch.nan
    return Anisotropy(angle=listed(found[0].angle), error=listed(error.nanmean(0)), ratio=listed(ratio))


def _short_bins(frame: Frame, short_length: int) -> slice:
    """The position bins inside the short context, at least one."""
    return slice(0, max(1, frame.bins.of(short_length - 1)))


def _significant(x: Tensor) -> Tensor:
    size = 10 ** (MAP_DIGITS - 1 - x.double().abs().clamp_min(1e-30).log10().floor())
    return (x.double() * size).round() / size
