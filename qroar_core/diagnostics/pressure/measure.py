"""Logit-weighted interpolation pressure: what the loaded model's own q and k make of a moving frequency.

A pair's share of a logit is scaling * Re(q_i conj k_i), both after RoPE, and its phase holds omega_i (m - n)
with the sign of the rotation (+). So, with slope_i = d omega_i / d ln s and the attention factor a(s) on both
sides,

    d part_i / d ln s = -(m - n) slope_i * scaling * Im(q_i conj k_i) + 2 (d ln a / d ln s) part_i.

The signed parts add up to the derivative of the logit (channels without rotation have none). How far the logits move
is the mean of |sum of the parts|, of all pairs or of a band's, in nats per e-fold of scale, over (m, n <= m) under a
distance law. Pairs that push in opposite directions cancel in it; the sum of the means of |part| is an upper bound.
Its null gives every pair's part a random sign: as large, but each pair for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.distances import DrawnPairs
from qroar_core.maths.meters import CPU, Meter, onto
from qroar_core.maths.rope import Pairing, split_pairs

BLOCK_ELEMENTS = 4_000_000  # (head, row, key, pair) products held at once


def logit_slope_parts(
    q: Tensor,
    k: Tensor,
    distance: Tensor,
    slope: Tensor,
    *,
    scaling: float,
    pairing: Pairing,
    factor_slope: float = 0.0,
) -> Tensor:
    """Signed d logit_mn / d ln s of each pair.

    Args:
        q: (heads, R, head_dim) after RoPE; k: (n_kv_heads, N, head_dim) after RoPE, or (n_kv_heads, R, N, head_dim)
            where every row has keys of its own.
        distance: m - n, tokens; (R, N). May be negative (not causal): the caller masks.
        slope: d omega_i / d ln s; (rotary_dim // 2,).
        scaling: of the softmax. factor_slope: d ln a / d ln s.
    Returns:
        (heads, R, N, rotary_dim // 2), q's dtype or fp32; summed over the last axis, the logit's derivative.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(dtype), k.to(dtype)
    heads, kv, pairs = q.shape[0], k.shape[0], slope.numel()
    weight = slope.to(q) * scaling
    q_re, q_im = (c.reshape(kv, heads // kv, -1, 1, pairs) for c in split_pairs(q, 2 * pairs, pairing))
    k = k if k.ndim == 4 else k[:, None]
    k_re, k_im = (c[:, None] for c in split_pairs(k, 2 * pairs, pairing))  # (KV, 1, R or 1, N, r/2)
    # -Im(q conj k) * slope * scaling: (KV, G, R, N, r/2)
    cross = (q_re * weight) * k_im - (q_im * weight) * k_re
    parts = cross * distance[..., None].to(q)
    if factor_slope:
        parts += (2 * factor_slope * scaling) * (q_re * k_re + q_im * k_im)
    return parts.flatten(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class LayerLogitChange:
    """Weighted means over each row's keys and over query heads, nats per e-fold of scale; CPU float64.

    parts: |signed part| of each pair, (R, rotary_dim // 2). moved: |sum of the parts| of each band, then of all pairs,
    (R, bands + 1). null: the same with a random sign on every pair's part, (draws, R, bands + 1).
    """

    parts: Tensor
    moved: Tensor
    null: Tensor


class LogitChangeMeter(Meter):
    """Collects LayerLogitChange of one layer, row by row.

    Args:
        slope: d omega_i / d ln s, rad/token per e-fold; (rotary_dim // 2,).
        drawn: the rows and keys.
        band: of each pair; (rotary_dim // 2,) int64.
        scaling, pairing, factor_slope: as in `logit_slope_parts`.
        seed: of the null's signs. draws: how many times they are drawn.
    """

    def __init__(
        self,
        slope: Tensor,
        drawn: DrawnPairs,
        band: Tensor,
        *,
        scaling: float,
        pairing: Pairing,
        factor_slope: float = 0.0,
        seed: int = 0,
        draws: int = 1,
    ) -> None:
        self.slope, self.drawn, self.scaling, self.pairing = slope, drawn, scaling, pairing
        self.factor_slope, self.seed, self.draws = factor_slope, seed, draws
        self.member = torch.nn.functional.one_hot(band).to(torch.float32)  # (r/2, bands)
        rows, bands = len(drawn.rows), self.member.shape[1]
        self.parts = torch.full((rows, len(slope)), torch.nan, dtype=torch.float64)
        self.moved = torch.full((rows, bands + 1), torch.nan, dtype=torch.float64)
        self.null = torch.full((draws, rows, bands + 1), torch.nan, dtype=torch.float64)

    def update(self, q: Tensor, first: int, k: Tensor) -> None:
        """Count the rows first, first + 1, ... of the sample.

        Args:
            q: (heads, n, head_dim) after RoPE at `drawn.rows[first : first + n]`.
            k: (n_kv_heads, at least the last of these rows + 1, head_dim) after RoPE, from position 0 on.
        """
        self.to_device(q.device)
        keys = self.drawn.keys.shape[1]
        block = max(1, BLOCK_ELEMENTS // max(1, q.shape[0] * keys * len(self.slope)))
        for start in range(0, q.shape[1], block):
            self._count(q[:, start : start + block], first + start, k)

    def _count(self, q: Tensor, first: int, k: Tensor) -> None:
        here = slice(first, first + q.shape[1])
        keys = self.drawn.keys[here]
        distance = onto(self.drawn.rows[here, None] - keys, q.device)
        parts = logit_slope_parts(
            q,
            k[:, onto(keys, k.device)],
            distance,
            self.slope,
            scaling=self.scaling,
            pairing=self.pairing,
            factor_slope=self.factor_slope,
        )
        weight = onto(self.drawn.key_weight[here], parts.device, parts.dtype)
        self.parts[here] = _mean(parts.abs(), weight).to(self.parts)
        self.moved[here] = self._moved(parts, weight)
        for draw in range(self.draws):
            sign = torch.stack([self._signs(draw, row) for row in range(here.start, here.stop)])
            self.null[draw, here] = self._moved(parts * onto(sign, parts.device, parts.dtype), weight)

    def _moved(self, parts: Tensor, weight: Tensor) -> Tensor:
        by_band = parts @ self.member.to(parts)
        return _mean(torch.cat((by_band, by_band.sum(-1, keepdim=True)), -1).abs(), weight).to(self.moved)

    def _signs(self, draw: int, row: int) -> Tensor:
        """+1 or -1 of each key and pair: of the row in the sample, not of the chunk that it arrives in."""
        maker = torch.Generator().manual_seed(hash((self.seed, draw, row)) % 2**63)
        return 2 * torch.randint(2, (self.drawn.keys.shape[1], len(self.slope)), generator=maker) - 1

    def result(self) -> LayerLogitChange:
        """Means so far; NaN in rows that were not counted."""
        self.to_device(CPU)
        return LayerLogitChange(self.parts, self.moved, self.null)


def _mean(x: Tensor, weight: Tensor) -> Tensor:
    """Over query heads, and over keys by `weight`; (heads, R, N, c) -> (R, c)."""
    return torch.einsum("hrnc,rn->rc", x, weight) / len(x)
