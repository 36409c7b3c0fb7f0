"""Dynamic-range dilation: how the range of q and k grows along the context, and what that costs in bits.

A uniform quantizer of b bits has step proportional to absmax, so its noise doubles for every doubling of
absmax: log2 of a ratio of ranges is the number of bits lost. Two ratios are kept apart. `bits_lost` compares
a position bin with the short context; `crest_bits` compares a bin's absmax with its own RMS, the range that
outliers make the rest pay for. Ranges come from the channel maps of diagnostics/outliers/measure.py; quantiles from a
histogram of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.diagnostics.outliers.measure import ChannelMaps
from qroar_core.maths.meters import CPU, Meter, onto
from qroar_core.maths.positions import PositionBins, dealt
from qroar_core.maths.sketches import LogHistogram

# absmax / RMS of a uniform density on [-A, A]: a range that is fully used wastes no bits
UNIFORM_CREST = math.sqrt(3.0)


@dataclass(frozen=True, slots=True, eq=False)
class LayerDilation:
    """Ranges of one tensor of one layer; CPU float64, (n_kv_heads, bands, bins), NaN in empty bins.

    absmax, rms: of the band's coordinates. bits_lost: log2(absmax / reference absmax), the reference being
    the geometric mean over the reference bins (single bins are of one size, so more tokens do not widen it);
    negative where the range shrinks. crest_bits: log2(absmax / (sqrt(3) RMS)), >= 0 for anything peakier than
    uniform.
    """

    absmax: Tensor
    rms: Tensor
    bits_lost: Tensor
    crest_bits: Tensor


def dilation(maps: ChannelMaps, band_of_channel: Tensor, reference: slice) -> LayerDilation:
    """Ranges by KV head, band and position bin.

    Args:
        maps: of q or k, before or after RoPE.
        band_of_channel: int64 (head_dim,), -1 in no band (left out).
        reference: the bins of the short context; at least one must hold tokens.
    Raises:
        ValueError: the reference bins hold no tokens.
    """
    filled = maps.count > 0
    if not bool(filled[reference].any()):
        raise ValueError(f"the reference bins {reference} hold no tokens")
    bands = int(band_of_channel.max()) + 1
    members = [band_of_channel == b for b in range(bands)]
    absmax = torch.stack([maps.maximum[:, m].amax(1) for m in members], 1)  # (KV, bands, bins)
    rms = torch.stack([maps.rms[:, m].square().mean(1).sqrt() for m in members], 1)
    absmax, rms = (x.masked_fill(~filled, math.nan) for x in (absmax, rms))
    base = absmax[..., reference].log2().nanmean(-1, keepdim=True)
    return LayerDilation(absmax, rms, absmax.log2() - base, (absmax / (UNIFORM_CREST * rms)).log2())


class QuantilesByPosition(Meter):
    """Quantiles of |x| by position bin and band, all heads of a layer pooled, within 1.6 % of their value.

    Args:
        bins: of position.
        band_of_channel: int64 (head_dim,), -1 in no band (left out).
    """

    def __init__(self, bins: PositionBins, band_of_channel: Tensor) -> None:
        self.bins, self.band_of_channel = bins, band_of_channel
        self.bands = int(band_of_channel.max()) + 1
        self.histogram = LogHistogram((bins.count, self.bands))

    def update(self, start: int, x: Tensor) -> None:
        """Add x (heads, tokens, head_dim) whose first token sits at position `start`."""
        self.to_device(x.device)
        position = start + torch.arange(x.shape[1], device=x.device)
        where = (position * self.bins.count // self.bins.length).clamp_(max=self.bins.count - 1)
        cell = where[:, None] * self.bands + self.band_of_channel  # (tokens, head_dim)
        self.histogram.update(x, cell.masked_fill(self.band_of_channel < 0, -1))

    def result(self, quantiles: tuple[float, ...] = (0.5, 0.99, 0.999)) -> Tensor:
        """(len(quantiles), bins, bands) float64, within LogHistogram.relative_bound; NaN in empty bins."""
        return torch.stack([self.histogram.quantile(q) for q in quantiles])


class DealtRange(Meter):
    """The largest |x| by bin, KV head and band where each token's bin is drawn at random: range without position.

    Args:
        n_kv_heads: of x.
        bins: of position; only their number and size count.
        band_of_channel: int64 (head_dim,), -1 in no band (left out).
        seed: of the first draw.
        draws: how many.
    """

    def __init__(self, n_kv_heads: int, bins: PositionBins, band_of_channel: Tensor, seed: int, draws: int) -> None:
        self.bins, self.seed, self.draws = bins, seed, draws
        self.members = [torch.nonzero(band_of_channel == b)[:, 0] for b in range(int(band_of_channel.max()) + 1)]
        self.maximum = torch.full((draws, bins.count, n_kv_heads, len(self.members)), -1.0)  # -1: no token yet

    def update(self, start: int, x: Tensor) -> None:
        """Add x (n_kv_heads, tokens, head_dim) whose first token sits at position `start`."""
        self.to_device(x.device)
        magnitude = x.detach().abs().float()
        largest = torch.stack([magnitude[..., onto(m, x.device)].amax(-1) for m in self.members], -1).transpose(0, 1)
        for draw in range(self.draws):  # (tokens, KV, bands)
            where = dealt(self.bins, start, x.shape[1], self.seed + draw, x.device)
            self.maximum[draw].scatter_reduce_(0, where[:, None, None].expand_as(largest), largest, "amax")

    def result(self, reference: slice) -> tuple[Tensor, Tensor]:
        """absmax and bits_lost as `dilation` says them, (draws, n_kv_heads, bands, bins) float64 each."""
        self.to_device(CPU)
        absmax = self.maximum.permute(0, 2, 3, 1).double()
        absmax = absmax.masked_fill(absmax < 0, math.nan)
        return absmax, absmax.log2() - absmax[..., reference].log2().nanmean(-1, keepdim=True)
