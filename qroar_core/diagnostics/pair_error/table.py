"""From meters to the amplitude and phase errors of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qroar_core.diagnostics.pair_error.measure import FIELDS, PairErrorMeter
from qroar_core.diagnostics.pair_error.result import PairErrors, RandomAngle
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tensor_lists import listed


def pair_errors_of(meters: Sequence[PairErrorMeter]) -> PairErrors:
    """Sums and counts pooled over layers; `length_share` alone is a mean over them, and `share` of all energy."""
    first = meters[0]
    draws = [[m.nulls[draw] for m in meters] for draw in range(len(first.nulls))]
    found = _pooled(meters)
    share, zeroed = _shares(meters)
    counts = {name: found[name].long().tolist() for name in ("pairs", "with_phase")}
    return PairErrors(
        **{name: listed(found[name]) for name in ("amplitude", "phase", "length_share", "zeroed")},
        **counts,
        share=share,
        zeroed_share=zeroed,
        null=_null(draws) if draws else None,
        sample=first.blind.sample(first.tokens) if first.blind else Sample(tokens=first.tokens),
    )


def _pooled(meters: Sequence[PairErrorMeter]) -> dict[str, Tensor]:
    """By band and position: root mean squares over the pairs of all layers, and how many they are."""
    by_layer = [m.totals() for m in meters]
    s = {name: torch.stack([totals[name] for totals in by_layer]).sum(0) for name in FIELDS}
    return {
        "amplitude": (s["amplitude_square"] / s["pairs"]).sqrt(),
        "phase": (s["phase_square"] / s["turned"]).sqrt(),
        "length_share": torch.stack([m.result().length_share for m in meters]).nanmean(0),
        "zeroed": s["zeroed"] / s["pairs"],
        "pairs": s["pairs"],
        "with_phase": s["turned"],
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
