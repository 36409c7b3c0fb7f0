"""From meters to the amplitude and phase errors of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qroar_core.diagnostics.listed import listed
from qroar_core.diagnostics.pair_error.measure import FIELDS, PairErrorMeter
from qroar_core.diagnostics.pair_error.result import PairErrors, RandomAngle
from qroar_core.diagnostics.sample import Sample


def pair_errors_of(meters: Sequence[PairErrorMeter]) -> PairErrors:
    """Layers pooled: RMS of RMS, mean of shares by band and position; `share` is of the energy of all."""
    first = meters[0]
    draws = [[m.nulls[draw] for m in meters] for draw in range(len(first.nulls))]
    found = _pooled(meters)
    share, zeroed = _shares(meters)
    return PairErrors(
        **{name: listed(found[name]) for name in ("amplitude", "phase", "length_share", "zeroed")},
        share=share,
        zeroed_share=zeroed,
        null=_null(draws) if draws else None,
        sample=first.blind.sample(first.tokens) if first.blind else Sample(tokens=first.tokens),
    )


def _pooled(meters: Sequence[PairErrorMeter]) -> dict[str, Tensor]:
    found = [m.result() for m in meters]

    def mean(name: str, power: int = 1) -> Tensor:
        return torch.stack([getattr(f, name) for f in found]).pow(power).nanmean(0).pow(1 / power)

    return {
        "amplitude": mean("amplitude_rms", 2),
        "phase": mean("phase_rms", 2),
        "length_share": mean("length_share"),
        "zeroed": mean("zeroed"),
    }


def _shares(meters: Sequence[PairErrorMeter]) -> tuple[float | None, float | None]:
    """Of all error energy what is length, and of all pairs those rounded to zero; None without any."""
    total = dict(zip(FIELDS, torch.stack([m.sums.sum((1, 2)) for m in meters]).sum(0), strict=True))
    return listed(torch.stack([total["length_energy"] / total["energy"], total["zeroed"] / total["pairs"]]))


def _null(draws: list[list[PairErrorMeter]]) -> RandomAngle:
    found = [_pooled(meters) for meters in draws]
    shares = [share for meters in draws if (share := _shares(meters)[0]) is not None]

    def mean(name: str, power: int) -> Any:
        return listed(torch.stack([f[name] for f in found]).pow(power).mean(0).pow(1 / power))

    return RandomAngle(
        amplitude=mean("amplitude", 2),
        phase=mean("phase", 2),
        length_share=mean("length_share", 1),
        share=sum(shares) / len(shares) if shares else None,
        share_low=min(shares, default=None),
        share_high=max(shares, default=None),
    )
