"""How much context length inflates the tails of |x|: rho_W before RoPE, rho_A on the quantizer's axes after
it.

`BandTails` collects one side (long or short) per window, KV head and band; `tail_inflation` compares two
sides and resamples the windows for an interval. It takes any sketch of maths/sketches.py whose first axis is
the windows, so a whole-context histogram serves as well as an exact tail. `swapped_ratios` is its null: the same
ratio where long and short trade places in windows drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from qroar_core.maths.meters import CPU
from qroar_core.maths.sketches import RANK_TOLERANCE, LogHistogram, TopTail

SWAPS = 256  # ways to swap sides that the null takes: all of them up to 8 windows
BODY_SUB_BITS = 5  # of the histogram below the exact tail: quantiles within 2^-6 of their value


class Tails(Protocol):
    """What `tail_inflation` needs of a sketch; axis 0 of `shape` is the windows."""

    shape: tuple[int, ...]

    def quantile(self, q: float, weights: Tensor | None = None) -> Tensor: ...


class BandTails(TopTail):
    """TopTail over (windows, n_kv_heads, bands), fed with whole q, k or pre-RoPE projections.

    Beside the exact tail it keeps a histogram of everything, windows pooled, for `survival`.

    Args:
        band_of_channel: int64 (head_dim,), -1 for channels of no band (left out).
        keep: as for TopTail; the band with most channels sets it.
    """

    def __init__(self, windows: int, n_kv_heads: int, band_of_channel: Tensor, keep: int) -> None:
        self.bands = int(band_of_channel.max()) + 1
        super().__init__((windows, n_kv_heads, self.bands), keep)
        self.body = LogHistogram((n_kv_heads, self.bands), sub_bits=BODY_SUB_BITS, dtype=torch.int32)
        head = torch.arange(n_kv_heads)[:, None] * self.bands  # first cell of each head
        self.cell = torch.where(band_of_channel < 0, -1, head + band_of_channel)  # (KV, head_dim)
        members = [torch.nonzero(band_of_channel == b)[:, 0] for b in range(self.bands)]
        self.sizes = torch.tensor([len(m) for m in members])
        self.channels = torch.full((self.bands, int(self.sizes.max())), -1)
        for b, m in enumerate(members):
            self.channels[b, : len(m)] = m

    def add(self, window: int, x: Tensor) -> None:
        """Merge x (heads, tokens, head_dim) into one window; heads is n_kv_heads or a multiple of it."""
        self.to_device(x.device)
        kv = self.shape[1]
        flat = x.detach().abs().reshape(kv, -1, x.shape[-1])  # (KV, group * tokens, head_dim)
        picked = flat[:, :, self.channels.clamp(min=0)]  # (KV, group * tokens, bands, channels of the widest band)
        picked = picked.masked_fill(self.channels < 0, -1.0).transpose(1, 2).flatten(2)
        self.update(picked, self.sizes * flat.shape[1], window)
        self.body.update(flat, self.cell[:, None])

    def survival(self, shares: tuple[float, ...]) -> Tensor:
        """The least |x| that at most a share p of the entries exceeds, windows pooled: the 1 - p quantile.

        Exact where the tail kept reaches, else within `LogHistogram.relative_bound`; never falling with p.

        Args:
            shares: p, 0..1, descending.
        Returns:
            (n_kv_heads, bands, len(shares)) float64; NaN where fewer than 1 / p entries were seen.
        """
        self.to_device(CPU)
        total = self.seen.sum(0)  # (KV, bands)
        pooled = torch.ones(1, self.shape[0])
        out: list[Tensor] = []
        above = torch.full(total.shape, math.inf, dtype=torch.float64)  # no quantile exceeds one further out
        for p in reversed(shares):
            exact = self.reaches(1 - p)
            value = self.quantile(1 - p, pooled)[0] if exact else self.body.quantile(1 - p)
            value = value.where(p * total + RANK_TOLERANCE >= 1, math.nan)
            above = value.minimum(above).where(value.isfinite(), above)
            out.append(value.minimum(above))
        return torch.stack(out[::-1], -1)


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
    Source: docs/method.md section 3.2; percentile bootstrap, Efron 1979.
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


def swaps(windows: int, paired: bool, seed: int) -> Tensor:
    """Which windows of both sides make up the long one: 0 or 1, float (draws, 2 windows), the long side's own first.

    Paired, a window's two sides trade places or stay: every way up to SWAPS of them, else drawn ones. Unpaired, any
    half of all windows is drawn. Row -1 - i holds what row i leaves, so the short side of a row is found there.
    """
    if paired and 2**windows <= SWAPS:
        stays = (torch.arange(2**windows)[:, None] >> torch.arange(windows)) % 2 == 1
    else:
        generator = torch.Generator().manual_seed(seed)
        if paired:
            half = torch.rand(SWAPS // 2, windows, generator=generator) < 0.5
        else:
            half = torch.rand(SWAPS // 2, 2 * windows, generator=generator).argsort(1) < windows
        stays = torch.cat([half, ~half.flip(0)])
    return (torch.cat([stays, ~stays], 1) if paired else stays).float()


def swapped_ratios(long: TopTail, short: TopTail, eps: float, *, paired: bool = True, seed: int = 0) -> Tensor:
    """The ratio of `tail_inflation` where it means nothing which side a window's values come from.

    Returns:
        (draws, *cells) float64; the draws are the same for every sketch of as many windows.
    Raises:
        ValueError: sides of other cells or windows.
    Source: Fisher's randomisation test, The Design of Experiments, 1935, section 21.
    """
    if long.shape != short.shape:
        raise ValueError(f"sides differ: long {long.shape}, short {short.shape}")
    found = long.beside(short).quantile(1 - eps, swaps(long.shape[0], paired, seed))
    return _ratio(found, found.flip(0))
