"""Grouping RoPE pairs into contiguous frequency bands (docs/method.md section 2).

Pairs are ordered from fast (0) to slow (r/2 - 1); a band is (first_pair, last_pair), both included.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.rope import Pairing, pair_index
from qroar_core.number_of import number_of
from qroar_core.specs import BandSpec

Bands = tuple[tuple[int, int], ...]

BETA_FAST, BETA_SLOW = 32.0, 1.0  # YaRN's borders in turns per native window, arXiv 2309.00071


def turns_per_window(inv_freq: Tensor, context: int) -> Tensor:
    """Full turns each pair makes across `context` tokens: L omega_i / 2 pi, float64."""
    return inv_freq.double() * context / (2 * math.pi)


def partition(inv_freq: Tensor, original_context: int, spec: BandSpec) -> Bands:
    """Cut the pairs into `spec.count` bands.

    count: equal numbers of pairs. log: equal spans of ln omega over the native frequencies. turns:
    YaRN's three regions (> 32 turns, between, < 1 turn), the bands shared out among them by size.

    Args:
        inv_freq: native frequencies, rad/token, descending; (rotary_dim // 2,).
        original_context: L0, tokens.
    Raises:
        BadSpec: more bands than pairs, or a partition that leaves fewer non-empty bands.
    """
    n = inv_freq.numel()
    if spec.count > n:
        raise BadSpec(f"{spec.count} bands need at least as many RoPE pairs", do=f"this model has {n}")
    if spec.partition == "count":
        edges = [round(b * n / spec.count) for b in range(spec.count + 1)]
    elif spec.partition == "log":
        level = -inv_freq.double().log()  # ascending
        cuts = torch.linspace(float(level[0]), float(level[-1]), spec.count + 1, dtype=torch.float64)[1:-1]
        edges = [0, *torch.searchsorted(level, cuts).tolist(), n]
    else:
        edges = _by_turns(turns_per_window(inv_freq, original_context), spec.count)
    bands = tuple((a, b - 1) for a, b in zip(edges, edges[1:], strict=False) if b > a)
    if len(bands) != spec.count:
        raise BadSpec(
            f"partition {spec.partition} yields {number_of(len(bands), 'non-empty band')}, not {spec.count}",
            do=f"ask for {number_of(len(bands), 'band')} or another --partition",
        )
    return bands


def _by_turns(turns: Tensor, count: int) -> list[int]:
    n = turns.numel()
    fast = int((turns > BETA_FAST).sum())
    slow = int((turns < BETA_SLOW).sum())
    regions = [(0, fast), (fast, n - slow), (n - slow, n)]
    regions = [(a, b) for a, b in regions if b > a]
    if count < len(regions):
        raise BadSpec(f"partition turns has {number_of(len(regions), 'region')} here, got {number_of(count, 'band')}")
    shares = [1] * len(regions)  # every region gets a band, the rest go where pairs per band are most
    for _ in range(count - len(regions)):
        load = [(b - a) / s for (a, b), s in zip(regions, shares, strict=True)]
        shares[load.index(max(load))] += 1
    edges = [0]
    for (a, b), share in zip(regions, shares, strict=True):
        edges += [a + round((j + 1) * (b - a) / share) for j in range(share)]
    return edges


def band_of_pair(bands: Bands) -> Tensor:
    """Band index of each pair; int64, (rotary_dim // 2,)."""
    return torch.cat([torch.full((last - first + 1,), b) for b, (first, last) in enumerate(bands)])


def band_of_channel(bands: Bands, head_dim: int, rotary_dim: int, pairing: Pairing) -> Tensor:
    """Band index of each channel, -1 for channels without rotation; int64, (head_dim,)."""
    index = pair_index(head_dim, rotary_dim, pairing)
    return torch.where(index >= 0, band_of_pair(bands)[index.clamp_min(0)], index)
