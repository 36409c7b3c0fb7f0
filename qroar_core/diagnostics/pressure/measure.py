"""Logit-weighted interpolation pressure: what the loaded model's own q and k make of a moving frequency.

A pair's share of a logit is scaling * Re(q_i conj k_i), both after RoPE, and its phase holds omega_i (m - n)
with the sign of the rotation (+). So, with slope_i = d omega_i / d ln s and the attention factor a(s) on both
sides,

    d part_i / d ln s = -(m - n) slope_i * scaling * Im(q_i conj k_i) + 2 (d ln a / d ln s) part_i.

The signed parts add up to the derivative of the logit (channels without rotation have none). What is kept is
the mean of |.| over the sampled (m, n <= m), in nats per e-fold of scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.meters import CPU, Meter
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
        q: (heads, R, head_dim) after RoPE; k: (n_kv_heads, N, head_dim) after RoPE.
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
    k_re, k_im = (c[:, None, None] for c in split_pairs(k, 2 * pairs, pairing))  # (KV, 1, 1, N, r/2)
    # -Im(q conj k) * slope * scaling: (KV, G, R, N, r/2)
    cross = (q_re * weight) * k_im - (q_im * weight) * k_re
    parts = cross * distance[..., None].to(q)
    if factor_slope:
        parts += (2 * factor_slope * scaling) * (q_re * k_re + q_im * k_im)
    return parts.flatten(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class LogitPressure:
    """Mean over sampled (m, n), nats per e-fold of scale; CPU float64.

    by_pair: |signed part|, (n_kv_heads, rotary_dim // 2). total: |sum of parts|, (n_kv_heads,); at most the
    sum of by_pair, less where pairs cancel. samples: (m, n) pairs times query heads per KV head.
    """

    by_pair: Tensor
    total: Tensor
    samples: int

    def by_band(self, band_of_pair: Tensor) -> Tensor:
        """Sum of the pairs' means in each band; (n_kv_heads, bands)."""
        bands = int(band_of_pair.max()) + 1
        return torch.zeros(len(self.by_pair), bands).double().index_add_(1, band_of_pair, self.by_pair)


class LogitPressureMeter(Meter):
    """Accumulates LogitPressure of one layer from sampled query rows and keys.

    Args:
        slope: d omega_i / d ln s, rad/token per e-fold; (rotary_dim // 2,).
        n_kv_heads, scaling, pairing, factor_slope: as in `logit_slope_parts`.
    """

    def __init__(
        self,
        slope: Tensor,
        n_kv_heads: int,
        *,
        scaling: float,
        pairing: Pairing,
        factor_slope: float = 0.0,
        window: int | None = None,
    ) -> None:
        self.window = window  # keys further back are not seen
        self.slope, self.scaling, self.pairing, self.factor_slope = slope, scaling, pairing, factor_slope
        self.by_pair = torch.zeros(n_kv_heads, slope.numel(), dtype=torch.float64)
        self.total = torch.zeros(n_kv_heads, dtype=torch.float64)
        self.samples = 0

    def update(self, q: Tensor, rows: Tensor, k: Tensor, keys: Tensor) -> None:
        """Add every causal (row, key) of q (heads, R, head_dim) at `rows` and k (KV, N, head_dim) at `keys`.

        rows, keys: positions, int64, (R,) and (N,), on the CPU. Sample both: R * N * heads * pairs products are made.
        """
        self.follow(q.device)
        kv, group = len(self.total), q.shape[0] // len(self.total)
        block = max(1, BLOCK_ELEMENTS // max(1, q.shape[0] * len(keys) * self.slope.numel()))
        for first in range(0, len(rows), block):
            cut = slice(first, first + block)
            distance = rows[cut, None] - keys[None]  # (R, N)
            seen = distance >= 0
            if self.window is not None:
                seen &= distance < self.window
            self.samples += int(seen.sum()) * group
            parts = logit_slope_parts(
                q[:, cut],
                k,
                distance.to(q.device),
                self.slope,
                scaling=self.scaling,
                pairing=self.pairing,
                factor_slope=self.factor_slope,
            )
            parts *= seen[..., None].to(q.device)
            whole = parts.sum(-1).abs_().reshape(kv, -1).sum(-1)
            self.total += whole.to(self.total)
            self.by_pair += parts.abs_().reshape(kv, -1, parts.shape[-1]).sum(1).to(self.by_pair)

    def result(self) -> LogitPressure:
        """Means so far; NaN before any sample."""
        self.follow(CPU)
        return LogitPressure(
            self.by_pair / self.samples if self.samples else self.by_pair * torch.nan,
            self.total / self.samples if self.samples else self.total * torch.nan,
            self.samples,
        )
