"""Which channels of a head stand out, by rule and parameter, and what follows from it.

Every quantile interpolates linearly between order statistics, as numpy and scipy do by default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.specs import OUTLIER_RULES

CHANCE_NUMBERS = 2**23  # normal numbers that a chance count is read from
CHANCE_DRAWS = 2**17  # sets of channels, at most: as many as those numbers make sets of 64
CHANCE_BLOCK = 2**20  # numbers held at once
MAD_TO_SIGMA = 0.6745  # 0.75 quantile of the standard normal: MAD of a normal is 0.6745 sigma


def offered(rule: str, parameter: float) -> list[tuple[str, float]]:
    """Every rule with the parameters that a diagnosis counts, the asked one among them."""
    return [
        (name, value)
        for name, about in OUTLIER_RULES.items()
        for value in sorted({*about.offered, *([parameter] if name == rule else [])})
    ]


def outlier_limit(magnitude: Tensor, rule: str = "iqr", parameter: float | None = None) -> Tensor:
    """Magnitude above which an entry of the last axis is an outlier; shape without that axis, float64.

    iqr: Q3 + parameter (Q3 - Q1). mad: median + parameter MAD / 0.6745, a modified z-score of `parameter`.
    percentile: the `parameter` quantile.

    Raises:
        BadSpec: unknown rule.
    """
    if rule not in OUTLIER_RULES:
        raise BadSpec(f"unknown outlier rule {rule!r}", do=f"choose one of {', '.join(OUTLIER_RULES)}")
    value = OUTLIER_RULES[rule].usual if parameter is None else parameter
    m = magnitude.double()
    if rule == "percentile":
        return m.quantile(value, -1)
    if rule == "iqr":
        low, high = m.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64, device=m.device), -1)
        return high + value * (high - low)
    median = m.quantile(0.5, -1)
    return median + value / MAD_TO_SIGMA * (m - median[..., None]).abs().quantile(0.5, -1)


@dataclass(frozen=True, slots=True, eq=False)
class OutlierShift:
    """Outlier channels of one group of positions against those of another.

    first, second: bool, (..., head_dim): which channels stand out. either, both: how many do in one of them, and in
    both, (...). jaccard: both / either, NaN where no channel stands out. mass_moved: 0..1, total variation between the
    two distributions of magnitude over outlier channels (each normalised to 1): the part found in other channels; 1
    where one group has no outliers, NaN where neither has.
    """

    first: Tensor
    second: Tensor
    either: Tensor
    both: Tensor
    jaccard: Tensor
    mass_moved: Tensor


def outlier_shift(first: Tensor, second: Tensor, rule: str = "iqr", parameter: float | None = None) -> OutlierShift:
    """How the set of outlier channels differs between two groups of positions.

    Args:
        first, second: mean |x| of every channel over the positions of each group, (..., head_dim).
    """
    a, b = (m > outlier_limit(m, rule, parameter)[..., None] for m in (first, second))
    p, q = (_shares(m.double() * out) for m, out in ((first, a), (second, b)))
    either, both = (a | b).sum(-1).double(), (a & b).sum(-1).double()
    moved = torch.maximum((p - q).abs().sum(-1) / 2, (a.any(-1) != b.any(-1)).double())
    return OutlierShift(a, b, either, both, both / either, torch.where(either > 0, moved, torch.nan))


def _shares(mass: Tensor) -> Tensor:
    return mass / mass.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


@lru_cache(maxsize=256)
def chance_count(channels: int, rule: str, parameter: float) -> tuple[float, float]:
    """How many of `channels` numbers drawn from one normal distribution are outliers: mean and standard deviation.

    Whatever its mean and width: a rule's limit moves with them. The mean |x| of a channel over many tokens, and the
    mean |w| of a row over many inputs, are such numbers where all channels or rows are alike.

    Counted in 2^23 / channels draws, or 2^17 where that is less, so that the mean's standard error is the standard
    deviation over the root of that: 0.6 % of the mean or less for 64 channels or more and a fence of 1.5, and 0.0002
    outliers where there are 0.001.
    """
    usual = _counts(channels)
    asked = rule, parameter
    return usual[asked] if asked in usual else _counts(channels, asked)[asked]


@lru_cache(maxsize=64)
def _counts(channels: int, asked: tuple[str, float] | None = None) -> dict[tuple[str, float], tuple[float, float]]:
    """`chance_count` of what is asked, or of all that is offered: draws are sorted once for all."""
    wanted = [asked] if asked else [(rule, value) for rule, about in OUTLIER_RULES.items() for value in about.offered]
    draws, each = max(16, min(CHANCE_DRAWS, CHANCE_NUMBERS // channels)), max(1, CHANCE_BLOCK // channels)
    source = np.random.default_rng(0)
    total, square = (dict.fromkeys(wanted, 0.0) for _ in range(2))
    for first in range(0, draws, each):
        x = source.standard_normal((min(each, draws - first), channels), dtype=np.float32)
        x.sort(1)
        quantiles = {p: _of_sorted(x, p) for p in (0.25, 0.5, 0.75)}
        deviation = np.abs(x - quantiles[0.5][:, None])
        deviation.sort(1)
        spread = {"iqr": quantiles[0.75] - quantiles[0.25], "mad": _of_sorted(deviation, 0.5) / MAD_TO_SIGMA}
        start = {"iqr": quantiles[0.75], "mad": quantiles[0.5]}
        for rule, value in wanted:
            limit = _of_sorted(x, value) if rule == "percentile" else start[rule] + value * spread[rule]
            count = _above(x, limit)
            total[rule, value] += float(count.sum())
            square[rule, value] += float((count * count).sum())
    mean = {one: total[one] / draws for one in wanted}
    return {one: (mean[one], math.sqrt(max(square[one] / draws - mean[one] ** 2, 0.0))) for one in wanted}


def _above(x: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """How many of every row, ascending, exceed its limit; float64. Few do, so they are counted from the end."""
    count = np.zeros(len(x))
    for column in reversed(range(x.shape[1])):
        above = x[:, column] > limit
        if not above.any():
            break
        count += above
    return count


def _of_sorted(x: np.ndarray, p: float) -> np.ndarray:
    """The p quantile of every row, ascending."""
    at = p * (x.shape[1] - 1)
    low = min(int(at), x.shape[1] - 2) if x.shape[1] > 1 else 0
    high = min(low + 1, x.shape[1] - 1)
    return x[:, low] + np.float32(at - low) * (x[:, high] - x[:, low])


def standing_out(
    magnitude: Tensor, band_of_channel: Tensor, rule: str = "iqr", parameter: float | None = None
) -> tuple[Tensor, Tensor]:
    """Outlier channels by band: how many, and how large the largest is beside an ordinary channel.

    The rule runs over all channels of a head; ordinary is the head's median channel.

    Args:
        magnitude: mean |x| of every channel, (heads, head_dim).
        band_of_channel: int64 (head_dim,), -1 in no band.
    Returns:
        count (bands,), over all heads; times the median (bands,), the largest over heads, NaN where count is 0.
    """
    m = magnitude.double()
    out = m > outlier_limit(m, rule, parameter)[:, None]
    times = torch.where(out, m / m.quantile(0.5, -1)[:, None], -torch.inf)
    count = by_band(out.sum(0).double(), band_of_channel)
    largest = torch.full_like(count, torch.nan)
    for band in torch.nonzero(count)[:, 0].tolist():
        largest[band] = times[:, band_of_channel == band].max()
    return count, largest


def by_band(channels: Tensor, band_of_channel: Tensor) -> Tensor:
    """Sums (..., bands) of what channels (..., head_dim) hold; channels of no band (-1) are left out."""
    used = band_of_channel >= 0
    out = torch.zeros(*channels.shape[:-1], int(band_of_channel.max()) + 1, dtype=torch.float64)
    return out.index_add_(-1, band_of_channel[used], channels[..., used].double())
