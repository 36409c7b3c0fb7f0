"""Scales put in wrong places: the same values, another band, or another head and layer.

What shuffled scales still win, any spread of scales would have won; what they lose is owed to the places.
Only units that have scales of their own are moved: heads where each has its own, layers where its heads share them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from qroar_core.transforms.scales import Scales


def shuffled_bands(scales: Scales, seed: int) -> Scales:
    """Every unit's scales in a drawn order over its bands, one drawing a unit; angles and maps stay as they are."""
    units = _units(scales, scales.g)
    order = torch.rand(units.shape, generator=torch.Generator().manual_seed(seed)).argsort(-1)
    return replace(scales, g=_spread(units.gather(-1, order), scales.g))


def shuffled_heads(scales: Scales, seed: int, still: Collection[int] = ()) -> Scales | None:
    """Every unit's scales, angles and maps of K given to a drawn unit; None where all units share one set.

    Value maps stay: they say nothing of K. So does what is taken off K: it is each head's own constant, whatever
    scales it.

    Args:
        still: layers without RoPE, whose scales do nothing; they take no part.
    """
    layers, heads, *_ = _units(scales, scales.g).shape
    moving = torch.tensor([layer for layer in range(layers) if layer not in still])
    count = len(moving) * heads
    if count < 2:
        return None
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def moved(whole: Tensor) -> Tensor:
        units = _units(scales, whole).clone()
        units[moving] = units[moving].flatten(0, 1)[order].unflatten(0, (len(moving), heads))
        return _spread(units, whole)

    turns = None if scales.angles is None else moved(scales.angles)
    return replace(scales, g=moved(scales.g), angles=turns, maps=tuple(moved(one) for one in scales.maps))


def _units(scales: Scales, whole: Tensor) -> Tensor:
    """What has values of its own: (layers, kv_heads, ...), an axis of length 1 where they are shared."""
    return {"model": whole[:1, :1], "layer": whole[:, :1], "kv_head": whole}[scales.granularity]


def _spread(units: Tensor, whole: Tensor) -> Tensor:
    return units.expand_as(whole).contiguous()
