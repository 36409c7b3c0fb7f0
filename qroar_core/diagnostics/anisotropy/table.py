"""From meters to the error by angle of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter, blind_energies, worst_over_best
from qroar_core.diagnostics.anisotropy.result import AngleBlindNoise, Anisotropy
from qroar_core.diagnostics.listed import listed, significant
from qroar_core.diagnostics.sample import Sample
from qroar_core.maths.draws import null_range

DRAWS = 1_000  # of the null; they cost nothing, as they need only how many pairs stand at every angle
LEVEL = {"step": 1 / 6, "error": 2.0}  # mean of what errors are divided into: two coordinates, 1/12 each of a step


def anisotropy_of(meters: Sequence[AnisotropyMeter], still: Sequence[int] = (), seed: int = 0,
                  layers: Sequence[int] | None = None) -> Anisotropy:  # fmt: skip
    """Mean error by angle over layers, and each layer's worst angle over its best; `still` ones have no pairs.

    Args:
        seed: of the null. layers: what the meters' layers are called, for its draws; None: 0, 1, ...
    """
    found = [m.result() for m in meters]
    turning = [i for i in range(len(meters)) if i not in still]
    first = meters[turning[0]]
    over: Literal["step", "error"] = "step" if first.by_step else "error"
    blind = [blind_energies(f.count, LEVEL[over], DRAWS, seed, layer)
             for f, layer in zip(found, range(len(meters)) if layers is None else layers, strict=True)]  # fmt: skip
    ratio = torch.stack([f.ratio for f in found])
    ratio[list(still)] = torch.nan
    return Anisotropy(
        angle=listed(found[0].angle),
        error=listed(torch.stack([found[i].error for i in turning]).nanmean(0)),
        ratio=listed(ratio),
        over=over,
        null=_null([blind[i] for i in turning], [found[i].count for i in turning]),
        sample=Sample(tokens=first.tokens, seed=seed, error=f"the null was drawn {DRAWS:,} times"),
    )


def _null(blind: Sequence[Tensor], counts: Sequence[Tensor]) -> AngleBlindNoise:
    """Of the layers that turn."""
    curves = torch.stack(list(blind), 1).nanmean(1)  # (draws, bands, angles)
    ratios = torch.stack([worst_over_best(b, n) for b, n in zip(blind, counts, strict=True)], 1)
    largest = ratios.nan_to_num(nan=-torch.inf, posinf=torch.inf).flatten(1).amax(1)
    low, high = null_range(curves)
    return AngleBlindNoise(
        error=listed(curves.mean(0)),
        error_low=listed(low),
        error_high=listed(high),
        ratio=listed(ratios.mean(0)),
        largest=listed(significant(largest)),
    )
