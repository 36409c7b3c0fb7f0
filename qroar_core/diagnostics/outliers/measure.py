"""Outlier channels, how they move with position, and how much of the quantization error they carry.

`ChannelMeter` reduces a stream of q, k or their pre-RoPE projections to maps of channel x position bin;
dilation reads the same maps. A rule names the outliers of a vector of channel magnitudes. Query heads are
pooled into the
KV head they read: n_kv_heads rows, whatever the number of heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.errors import BadSpec
from qroar_core.maths.meters import CPU, Meter, home
from qroar_core.maths.positions import PositionBins

IQR_FENCE = 1.5  # Tukey 1977, "Exploratory Data Analysis": outer edge of the box plot's whiskers
MAD_THRESHOLD = 3.5  # Iglewicz and Hoaglin 1993: modified z-score above which a point is an outlier
MAD_TO_SIGMA = 0.6745  # 0.75 quantile of the standard normal: MAD of a normal is 0.6745 sigma
PERCENTILE = 0.99
ENTRY_SAMPLE = 8192  # entries per head an entry threshold is read from


@dataclass(frozen=True, slots=True, eq=False)
class ChannelMaps:
    """Magnitudes by KV head, channel and position bin; CPU float64, (n_kv_heads, head_dim, bins); 0 in empty
    bins.

    count: tokens (times query heads per KV head) in each bin, (bins,).
    """

    mean_abs: Tensor
    rms: Tensor
    maximum: Tensor
    count: Tensor
    bins: PositionBins


class ChannelMeter(Meter):
    """Streams ChannelMaps of one tensor of one layer."""

    def __init__(self, n_kv_heads: int, head_dim: int, bins: PositionBins) -> None:
        self.bins = bins
        self.sum_abs, self.sum_square, self.maximum = (
            torch.zeros(bins.count, n_kv_heads, head_dim, dtype=torch.float64) for _ in range(3)
        )
        self.count = torch.zeros(bins.count, dtype=torch.int64)

    def update(self, start: int, x: Tensor) -> None:
        """Add x (heads, tokens, head_dim) whose first token sits at position `start`."""
        self.follow(x.device)
        kv, head_dim = self.maximum.shape[1:]
        magnitude = x.detach().abs().float()
        for p, cut in self.bins.segments(start, x.shape[1]):
            part = magnitude[:, cut].reshape(kv, -1, head_dim)  # (KV, group * tokens, head_dim)
            self.sum_abs[p] += part.sum(1).to(self.sum_abs)
            self.sum_square[p] += part.square().sum(1).to(self.sum_square)
            self.maximum[p] = torch.maximum(self.maximum[p], part.amax(1).to(self.maximum))
            self.count[p] += part.shape[1]

    def result(self) -> ChannelMaps:
        """Maps so far."""
        self.follow(CPU)
        n = self.count.clamp(min=1).double()[:, None, None]
        mean, rms = self.sum_abs / n, (self.sum_square / n).sqrt()
        mean, rms, maximum = (m.permute(1, 2, 0).clone() for m in (mean, rms, self.maximum))
        return ChannelMaps(mean, rms, maximum, self.count.clone(), self.bins)


def iqr_limit(magnitude: Tensor) -> Tensor:
    """Q3 + 1.5 (Q3 - Q1) over the last axis, linear interpolation between order statistics."""
    low, high = magnitude.double().quantile(torch.tensor([0.25, 0.75], dtype=torch.float64).to(magnitude.device), -1)
    return high + IQR_FENCE * (high - low)


def mad_limit(magnitude: Tensor) -> Tensor:
    """median + 3.5 MAD / 0.6745 over the last axis: a modified z-score of 3.5."""
    m = magnitude.double()
    median = m.quantile(0.5, -1)
    return median + MAD_THRESHOLD / MAD_TO_SIGMA * (m - median[..., None]).abs().quantile(0.5, -1)


def percentile_limit(magnitude: Tensor) -> Tensor:
    """0.99 quantile over the last axis."""
    return magnitude.double().quantile(PERCENTILE, -1)


OUTLIER_RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "iqr": iqr_limit,
    "mad": mad_limit,
    "percentile": percentile_limit,
}


def outlier_limit(magnitude: Tensor, rule: str = "iqr") -> Tensor:
    """Magnitude above which an entry of the last axis is an outlier; shape without that axis, float64.

    Raises:
        BadSpec: unknown rule.
    """
    if rule not in OUTLIER_RULES:
        raise BadSpec(f"unknown outlier rule {rule!r}", do=f"choose one of {', '.join(OUTLIER_RULES)}")
    return OUTLIER_RULES[rule](magnitude)


@dataclass(frozen=True, slots=True, eq=False)
class OutlierShift:
    """Outlier channels at short against long positions.

    short, long: bool, (n_kv_heads, head_dim). jaccard: |short & long| / |short | long|, (n_kv_heads,), 1
    where both are empty. mass_moved: 0..1, (n_kv_heads,): total variation between the two distributions of
    mean |x| over the outlier channels (each normalised to 1), the share that sits in other channels later; 0
    where both are empty, 1 where one is.
    """

    short: Tensor
    long: Tensor
    jaccard: Tensor
    mass_moved: Tensor


def outlier_shift(maps: ChannelMaps, short: slice, long: slice, rule: str = "iqr") -> OutlierShift:
    """How the set of outlier channels moves between two ranges of position bins.

    A channel's magnitude in a range is its mean |x| over the range's tokens.

    Args:
        maps: of one tensor of one layer.
        short, long: slices of bins; both must hold tokens.
        rule: key of OUTLIER_RULES.
    Raises:
        ValueError: a range without tokens. BadSpec: unknown rule.
    """
    sides = []
    for name, bins in (("short", short), ("long", long)):
        weight = maps.count[bins].double()
        if not weight.sum():
            raise ValueError(f"the {name} bins {bins} hold no tokens")
        mean = (maps.mean_abs[..., bins] * weight).sum(-1) / weight.sum()  # (KV, head_dim)
        outlier = mean > outlier_limit(mean, rule)[..., None]
        mass = mean * outlier
        sides.append((outlier, mass / mass.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)))
    (a, p), (b, q) = sides
    union = (a | b).sum(-1)
    jaccard = torch.where(union > 0, (a & b).sum(-1) / union.clamp(min=1), 1.0)
    one_empty = (a.any(-1) != b.any(-1)).double()
    return OutlierShift(a, b, jaccard.double(), torch.maximum((p - q).abs().sum(-1) / 2, one_empty))


def entry_threshold(x: Tensor, n_kv_heads: int, rule: str = "iqr") -> Tensor:
    """Magnitude above which a single entry of a head counts as an outlier; (n_kv_heads,) float64, where x is.

    The rule runs over up to ENTRY_SAMPLE entries of x (heads, tokens, head_dim), evenly strided by token.
    """
    flat = x.detach().abs().reshape(n_kv_heads, -1, x.shape[-1])  # (KV, tokens, head_dim)
    stride = max(1, -(-flat.shape[1] * flat.shape[2] // ENTRY_SAMPLE))
    return outlier_limit(flat[:, ::stride].flatten(1).to(home(x.device)), rule)


class OutlierErrorMeter(Meter):
    """Share of each band's quantization error that outlier entries carry, for several quantizers side by
    side.

    Args:
        threshold: of |x|, per KV head, (n_kv_heads,); from `entry_threshold` on the first chunk.
        band_of_channel: int64 (head_dim,), -1 in no band.
        variants: names of the quantizers, for example ("int8", "int4").
    """

    def __init__(self, threshold: Tensor, band_of_channel: Tensor, variants: tuple[str, ...]) -> None:
        self.threshold, self.band_of_channel, self.variants = threshold, band_of_channel, variants
        shape = (len(variants), len(threshold), len(band_of_channel))
        self.error, self.outlier_error = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
        self.entries, self.seen = torch.zeros(shape[1:], dtype=torch.float64), 0

    def update(self, x: Tensor, quantized: Mapping[str, Tensor]) -> None:
        """Add x (n_kv_heads, tokens, head_dim) and its quantized versions, keyed by variant."""
        self.follow(x.device)
        x = x.detach().float()
        outlier = (x.abs() > self.threshold.to(x)[:, None, None]).float()
        self.entries += outlier.sum(1).to(self.entries)
        self.seen += x.shape[1]
        for at, name in enumerate(self.variants):
            error = (quantized[name].detach().float() - x).square_()
            self.error[at] += error.sum(1).to(self.error)
            self.outlier_error[at] += (error * outlier).sum(1).to(self.outlier_error)

    def _by_band(self, channels: Tensor) -> Tensor:
        used = self.band_of_channel >= 0
        out = torch.zeros(*channels.shape[:-1], int(self.band_of_channel.max()) + 1, dtype=torch.float64)
        return out.index_add_(-1, self.band_of_channel[used], channels[..., used])

    def result(self) -> OutlierErrorShare:
        """Shares so far; NaN where a band has no error at all."""
        self.follow(CPU)
        entries = self._by_band(torch.full_like(self.entries, float(self.seen)))
        return OutlierErrorShare(
            self.variants,
            self._by_band(self.outlier_error) / self._by_band(self.error),
            self._by_band(self.entries) / entries,
        )


@dataclass(frozen=True, slots=True, eq=False)
class OutlierErrorShare:
    """By variant, KV head and band; CPU float64.

    error_share: part of sum (x^ - x)^2 on outlier entries, 0..1, (variants, n_kv_heads, bands).
    entry_share: how many of the entries are outliers, 0..1, (n_kv_heads, bands).
    """

    variants: tuple[str, ...]
    error_share: Tensor
    entry_share: Tensor
