"""From meters to the error by angle of the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qroar_core.diagnostics.anisotropy.angle_null import Source
from qroar_core.diagnostics.anisotropy.measure import AnisotropyMeter, NullMeter
from qroar_core.diagnostics.anisotropy.result import (
    OTHER_LAYER,
    SAME_VECTOR,
    SCALED,
    SWAPPED,
    AngleBlindNoise,
    Anisotropy,
)
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tensor_lists import listed

CONTROLS: dict[Source, str] = {"head": SWAPPED + SCALED, "layer": OTHER_LAYER + SCALED, "vector": SAME_VECTOR + SCALED}


def anisotropy_of(
    meters: Sequence[AnisotropyMeter], still: Sequence[int] = (), before_rope: bool = False
) -> Anisotropy:
    """Mean error by angle over layers, and each layer's worst angle over its best; `still` ones have no pairs.

    Args:
        before_rope: whether K is rounded before RoPE, and the angles are of those axes.
    """
    angle, error, ratio = _pooled(meters, still)
    draws = [_pooled([m.nulls[draw] for m in meters], still) for draw in range(len(meters[0].nulls))]
    turning = next(m for i, m in enumerate(meters) if i not in still)
    return Anisotropy(
        angle=listed(angle),
        error=listed(error),
        ratio=listed(ratio),
        before_rope=before_rope,
        angle_before_rope=before_rope,
        over="step" if turning.by_step else "error",
        null=_null(draws, CONTROLS[turning.swapped.source], *_lone(meters, still))
        if draws and turning.swapped
        else None,
        sample=turning.swapped.sample(turning.tokens) if turning.swapped else Sample(tokens=turning.tokens),
    )


def _pooled(meters: Sequence[AnisotropyMeter | NullMeter], still: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    found = [m.result() for m in meters]
    error = torch.stack([f.error for i, f in enumerate(found) if i not in still])
    ratio = torch.stack([f.ratio for f in found])
    ratio[list(still)] = torch.nan
    return found[0].angle, error.nanmean(0), ratio


def _lone(meters: Sequence[AnisotropyMeter], still: Sequence[int]) -> tuple[int, int]:
    """Pairs whose partner has no error, mean over draws, and all pairs."""
    drawn = torch.stack([torch.stack([n.drawn() for n in m.nulls]) for i, m in enumerate(meters) if i not in still])
    return round(float(drawn.double().sum() / drawn.shape[1])), drawn[:, 0].numel()


def _null(draws: list[tuple[Tensor, Tensor, Tensor]], control: str, lone: int, pairs: int) -> AngleBlindNoise:
    error, ratio = (torch.stack([draw[part] for draw in draws]) for part in (1, 2))
    cells = ratio.flatten(1)
    known = cells.isfinite()
    typical = torch.where(known, cells, 0.0).sum(1) / known.sum(1)  # as Anisotropy.typical
    largest = torch.where(known, cells, -torch.inf).amax(1)  # listed: no data, as -inf, is None
    return AngleBlindNoise(
        error=listed(error.mean(0)),
        ratio=listed(ratio.mean(0)),
        largest=listed(largest),
        typical=listed(typical),
        control=control,
        lone=lone,
        pairs=pairs,
    )
