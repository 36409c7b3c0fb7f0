"""How much context length inflates the tails of |x|: rho_W before RoPE, rho_A on the quantizer's axes after
it.

`BandTails` collects one side (long or short) per window, KV head and band; `tail_inflation` compares two
sides and resamples the windows for an interval. It takes any sketch of maths/sketches.py whose first axis is
the windows, so a whole-context histogram serves as well as an exact tail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from qroar_core.maths.sketches import TopTail


class Tails(Protocol):
    """What `tail_inflation` needs of a sketch; axis 0 of `shape` is the windows."""

    shape: tuple[int, ...]

    def quantile(self, q: float, weights: Tensor | None = None) -> Tensor: ...


class BandTails(TopTail):
    """TopTail over (windows, n_kv_heads, bands), fed with whole q, k or pre-RoPE projections.

    Args:
        band_of_channel: int64 (head_dim,), -1 for channels of no band (left out).
        keep: as for TopTail; the band with most channels sets it.
    """

    def __init__(self, windows: int, n_kv_heads: int, band_of_channel: Tensor, keep: int) -> None:
        self.bands = int(band_of_channel.max()) + 1
        super().__init__((windows, n_kv_heads, self.bands), keep)
        members = [torch.nonzero(band_of_channel == b)[:, 0] for b in range(self.bands)]
        self.sizes = torch.tensor([len(m) for m in members])
        self.channels = torch.full((self.bands, int(self.sizes.max())), -1)
        for b, m in enumerate(members):
            self.channels[b, : len(m)] = m

    def add(self, window: int, x: Tensor) -> None:
        """Merge x (heads, tokens, head_dim) into one window; heads is n_kv_heads or a multiple of it."""
        kv = self.shape[1]
        flat = x.detach().abs().reshape(kv, -1, x.shape[-1])  # (KV, group * tokens, head_dim)
        channels = self.channels.to(x.device)
        picked = flat[:, :, channels.clamp(min=0)]  # (KV, group * tokens, bands, channels of the widest band)
        picked = picked.masked_fill(channels < 0, -1.0).transpose(1, 2).flatten(2)
        self.update(picked, self.sizes * flat.shape[1], window)


@dataclass(frozen=True, slots=True, eq=False)
class TailInflation:
    """Q_{1-eps}(|x|) long over short, per cell (for example (n_kv_heads, bands)); float64, CPU.

    `low`, `high`: percentile bootstrap interval over windows at `confidence`.
    """

    ratio: Tensor
    low: Tensor
    high: Tensor
    long: Tensor
    short: Tensor
    eps: float
    confidence: float


def _ratio(long: Tensor, short: Tensor) -> Tensor:
    return torch.where(long == short, 1.0, long / short)  # two empty tails (0 and 0) are not inflated


def tail_inflation(
    long: Tails,
    short: Tails,
    eps: float,
    *,
    paired: bool = True,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> TailInflation:
    """Tail-inflation ratio with a bootstrap interval over windows.

    rho = Q_{1-eps}(|x|; long) / Q_{1-eps}(|x|; short), windows pooled. A resample draws windows with
    replacement (multinomial weights); paired, both sides draw the same ones. Exactly 1, interval and all,
    when both sides hold the same values.

    Args:
        long, short: sketches with cells (windows, *cells); paired needs the same windows in both.
        eps: tail probability.
        resamples: bootstrap size B; 0 gives a NaN interval.
        confidence: of the interval.
        seed: of the resampling.
    Returns:
        TailInflation over shape[1:].
    Raises:
        ValueError: cells differ, or windows differ while paired.
    Source: DESIGN section 3.2; percentile bootstrap, Efron 1979.
    """
    if long.shape[1:] != short.shape[1:] or (paired and long.shape != short.shape):
        raise ValueError(f"cells differ: long {long.shape}, short {short.shape}, paired={paired}")
    generator = torch.Generator().manual_seed(seed)

    def weights(windows: int) -> Tensor:
        drawn = torch.randint(windows, (resamples, windows), generator=generator)
        resampled = torch.zeros(resamples, windows).scatter_add_(1, drawn, torch.ones(resamples, windows))
        return torch.cat([torch.ones(1, windows), resampled])  # row 0: the estimate itself

    long_weights = weights(long.shape[0])
    short_weights = long_weights if paired else weights(short.shape[0])
    q_long, q_short = long.quantile(1 - eps, long_weights), short.quantile(1 - eps, short_weights)
    rho = _ratio(q_long, q_short)
    tail = (1 - confidence) / 2
    blank = torch.full_like(rho[0], math.nan)
    low, high = (rho[1:].nanquantile(p, 0) if resamples else blank for p in (tail, 1 - tail))
    return TailInflation(rho[0], low, high, q_long[0], q_short[0], eps, confidence)
