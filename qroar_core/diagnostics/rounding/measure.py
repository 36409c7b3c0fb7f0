"""Coordinates of q or K before against after quantization, and the length of whole head vectors.

With x a coordinate and x^ what is left of it: |x^ - x| (largest, RMS), |x^ - x| / |x| over the values that are not zero
(its 0.99 quantile: a value rounded to zero has 1, so its largest says little), |x^ - x| over the largest coordinate of
the same vector (largest), and |v^| / |v| - 1 of the whole vector v of a token and head (mean, RMS).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.maths.meters import CPU, Meter
from qroar_core.maths.rope import Pairing
from qroar_core.maths.sketches import LogHistogram
from qroar_core.quantizers.steps import Ends

QUANTILE = 0.99  # of the error relative to the value


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """CPU float64, (KV heads,) unless said otherwise; NaN where nothing was measured.

    clipped: share of all values that lie beyond the grid's end; zeroed: share of the values that are not zero and
    become zero; both on the axes that the quantizer rounds. band_largest, band_rms: (bands + 1,), the last of the
    channels without rotation.
    """

    largest: Tensor
    rms: Tensor
    relative_to_value: Tensor
    relative_to_vector: Tensor
    norm_mean: Tensor
    norm_rms: Tensor
    clipped: Tensor
    zeroed: Tensor
    band_largest: Tensor
    band_rms: Tensor


class NormMeter(Meter):
    """Streams mean and RMS of |v^| / |v| - 1 by KV head; vectors that are zero are skipped."""

    def __init__(self, kv_heads: int) -> None:
        self.sums = torch.zeros(3, kv_heads, dtype=torch.float64)  # of it, of its square, vectors

    def update(self, x: Tensor, quantized: Tensor, keep: Tensor | None = None) -> None:
        """x and its quantized version, (heads, tokens, head_dim); keep: bool (tokens,)."""
        self.to_device(x.device)
        norm = x.float().norm(dim=-1)
        there = norm > 0
        if keep is not None:
            there &= keep.to(there.device)
        stretch = torch.where(there, quantized.float().norm(dim=-1) / norm - 1, 0.0)
        kv_heads = self.sums.shape[1]
        for row, value in enumerate((stretch, stretch.square(), there)):
            self.sums[row] += value.unflatten(0, (kv_heads, -1)).sum((1, 2)).to(self.sums)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and RMS, (KV heads,)."""
        self.to_device(CPU)
        total, square, count = self.sums
        return total / count, (square / count).sqrt()


class RoundingMeter(Meter):
    """Streams Rounded of one layer, and the length of vectors with errors as large at random angles.

    Args:
        kv_heads: query heads that read the same KV head count together.
        band_of_channel: int64 (head_dim,), -1 without rotation.
        pairing: of the channels.
        layer, blind: what the angles are drawn for and from; None: no null.
    """

    def __init__(
        self, kv_heads: int, band_of_channel: Tensor, pairing: Pairing, layer: int = 0, blind: AngleBlind | None = None
    ) -> None:
        self.pairing, self.layer, self.blind = pairing, layer, blind
        bands = int(band_of_channel.max()) + 1
        self.part = torch.where(band_of_channel < 0, bands, band_of_channel)  # the last: no rotation
        self.square = torch.zeros(kv_heads, bands + 1, dtype=torch.float64)
        self.values = torch.zeros(kv_heads, bands + 1, dtype=torch.float64)
        self.greatest = torch.zeros(kv_heads, bands + 1, dtype=torch.float64)
        self.to_vector = torch.zeros(kv_heads, dtype=torch.float64)
        self.ends = torch.zeros(4, kv_heads, dtype=torch.float64)  # values, not zero, clipped, zeroed
        self.to_value = LogHistogram((kv_heads,), sub_bits=9, low=-12, high=8)
        self.norm = NormMeter(kv_heads)
        self.nulls = [NormMeter(kv_heads) for _ in range(blind.draws if blind else 0)]
        self.tokens = 0  # that counted

    def update(
        self, start: int, x: Tensor, quantized: Tensor, ends: Ends | None = None, keep: Tensor | None = None
    ) -> None:
        """Add x and its quantized version, both (heads, tokens, head_dim), from position `start`.

        Args:
            ends: what became of each value at the grid's ends; None: not known.
            keep: bool (tokens,): those that count; None: all.
        """
        self.to_device(x.device)
        kv_heads = len(self.square)
        counted = torch.ones(x.shape[1], dtype=torch.bool, device=x.device) if keep is None else keep.to(x.device)
        self.tokens += x.shape[1] if keep is None else int(keep.sum())
        self.norm.update(x, quantized, keep)
        for draw, null in enumerate(self.nulls):
            assert self.blind is not None
            null.update(x, self.blind.turned(draw, self.layer, start, x, quantized, self.pairing), keep)
        x = x.detach().float()
        error = (quantized.detach().float() - x).abs_().mul_(counted[:, None])
        by_head = error.unflatten(0, (kv_heads, -1))  # (KV, query heads of it, tokens, head_dim)
        self.square.index_add_(1, self.part, by_head.square().sum((1, 2)).to(self.square))
        many = counted.sum() * by_head.shape[1]
        ones = torch.ones(kv_heads, len(self.part), dtype=torch.float64, device=self.square.device)
        self.values.index_add_(1, self.part, ones * many.to(self.values))
        reach = by_head.amax((1, 2)).to(self.greatest)
        self.greatest.scatter_reduce_(1, self.part.expand_as(reach), reach, "amax")
        peak = x.abs().amax(-1, keepdim=True)
        against = torch.where(peak > 0, error / peak, 0.0).unflatten(0, (kv_heads, -1))
        self.to_vector = torch.maximum(self.to_vector, against.amax((1, 2, 3)).to(self.to_vector))
        cell = torch.arange(len(x), device=x.device) * kv_heads // len(x)
        self.to_value.update(error / x.abs(), torch.where((x != 0) & counted[:, None], cell[:, None, None], -1))
        if ends is not None:
            self.count_ends(ends, counted)

    def count_ends(self, ends: Ends, counted: Tensor | None = None) -> None:
        """Add what became of values at the grid's ends, (heads, tokens, head_dim); counted: bool (tokens,)."""
        self.to_device(ends.nonzero.device)
        found = torch.stack([torch.ones_like(ends.nonzero), *ends])
        if counted is not None:
            found &= counted[:, None]
        self.ends += found.unflatten(1, (len(self.square), -1)).sum((2, 3, 4)).to(self.ends)

    def result(self) -> Rounded:
        """What was found so far."""
        self.to_device(CPU)
        mean, rms = self.norm.result()
        values, nonzero, clipped, zeroed = self.ends
        there = self.values.sum(1) > 0
        return Rounded(
            largest=self.greatest.amax(1).where(there, torch.nan),
            rms=(self.square.sum(1) / self.values.sum(1)).sqrt(),
            relative_to_value=self.to_value.quantile(QUANTILE),
            relative_to_vector=self.to_vector.where(there, torch.nan),
            norm_mean=mean,
            norm_rms=rms,
            clipped=clipped / values,
            zeroed=zeroed / nonzero,
            band_largest=self.greatest.amax(0).where(self.values.sum(0) > 0, torch.nan),
            band_rms=(self.square.sum(0) / self.values.sum(0)).sqrt(),
        )
