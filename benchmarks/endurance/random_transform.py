"""Transforms drawn at random from every kind that the product applies, and some that it must refuse."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor

from qroar_core.interpolations.frequencies import bands_of
from qroar_core.models.geometry import Geometry
from qroar_core.models.loaded import LoadedModel
from qroar_core.specs import BandSpec, Granularity, Mode, RopeSpec
from qroar_core.transforms.groups import groups_of, still_channels
from qroar_core.transforms.polish import Polish
from qroar_core.transforms.registry import switches
from qroar_core.transforms.scales import Scales

MODES: tuple[Mode, ...] = ("symmetric", "shared")
GRANULARITIES: tuple[Granularity, ...] = ("model", "layer", "kv_head")
SPREAD = 0.1  # of numbers of a matrix around identity: it stays far from one that cannot be undone
OCTAVES = 2.0  # standard deviation of log2 g
HUGE = 2.0**200  # a scale that float32 cannot hold


def random_transform(loaded: LoadedModel, rope: RopeSpec, rng: random.Random) -> Scales:
    """Band scales of a random kind, each other kind beside them by the toss of a coin.

    Args:
        rope: its ties are what maps, offsets and polishes need.
    """
    names = {name for name in switches() if rng.random() < 0.5}
    return transform_of(loaded, rope, rng.choice(MODES), rng.choice(GRANULARITIES), names, rng.randrange(2**31))


def transform_of(
    loaded: LoadedModel, rope: RopeSpec, mode: Mode, granularity: Granularity, names: Collection[str], seed: int
) -> Scales:
    """A transform with these kinds beside band scales."""
    geo, generator = loaded.geometry, torch.Generator().manual_seed(seed)
    groups = groups_of(geo, rope)

    def drawn(*shape: int, heads: int = geo.n_kv_heads) -> Tensor:
        return torch.randn(geo.n_layers, heads, *shape, generator=generator, dtype=torch.float64)

    def shared(table: Tensor) -> Tensor:
        if granularity == "kv_head":
            return table
        one = table[:, :1] if granularity == "layer" else table[:1, :1]
        return one.expand_as(table).contiguous()

    bands = bands_of(loaded, BandSpec(2 ** (1 + seed % 4)))
    scales = Scales(mode, granularity, bands, shared(torch.exp2(OCTAVES * drawn(len(bands)))))
    if {"angles", "maps"} & set(names):
        scales = replace(scales, angles=shared(drawn(geo.n_pairs)))
    if "maps" in names and groups:
        maps = tuple(shared(group.matrix(SPREAD * drawn(group.numbers))) for group in groups)
        scales = replace(scales, groups=groups, maps=maps)
    if "value_maps" in names:
        size = geo.v_head_dim or geo.head_dim
        scales = replace(scales, value_maps=torch.eye(size).double() + SPREAD * drawn(size, size) / size**0.5)
    if "k_offset" in names:
        scales = replace(scales, k_offset=drawn(geo.head_dim) * still_channels(geo, rope)[:, None])
    if "polish" in names and groups:
        scales = replace(scales, polish=_polish(geo, rope, drawn))
    return scales


def refused_transform(loaded: LoadedModel, rope: RopeSpec, rng: random.Random) -> Scales:
    """One that `apply_scales` has to refuse: of another model, or with a product that leaves the number format."""
    fine = transform_of(loaded, rope, rng.choice(MODES), "kv_head", (), rng.randrange(2**31))
    other = torch.cat((fine.g, fine.g))
    huge = fine.g.clone()
    huge[tuple(rng.randrange(size) for size in huge.shape)] = HUGE
    return replace(fine, g=rng.choice((other, huge)))


def _polish(geo: Geometry, rope: RopeSpec, drawn: Callable[..., Tensor]) -> Polish:
    groups = tuple(group for group in groups_of(geo, rope) if not group.rest)
    q = tuple(group.matrix(SPREAD * drawn(group.numbers, heads=geo.n_heads)) for group in groups)
    k = tuple(group.matrix(SPREAD * drawn(group.numbers)) for group in groups)
    return Polish(groups, q, k)
