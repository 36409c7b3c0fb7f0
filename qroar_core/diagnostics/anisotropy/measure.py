"""Axis anisotropy: a quantizer works on coordinate axes, RoPE turns pairs off them, so error has an angle.

The error energy |z^ - z|^2 of each pair z = (a, b), divided by the squared step of its own quantizer, is booked under
the pair's angle atan2(|b|, |a|): 0 on its first axis, pi/4 on the diagonal, pi/2 on its second. The model's real K
under the quantizer in force, on the quantizer's own axes: after RoPE, or before it where it rounds K there. Noise that
does not see the angle shows one level at all angles, but for chance, which the null shows (`angle_null.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from qroar_core.diagnostics.anisotropy.angle_null import Swapped
from qroar_core.maths.meters import CPU, Meter, tally
from qroar_core.maths.rope import Pairing, split_pairs

# fewer pairs at an angle say little: the relative standard error of a mean energy is near 1/sqrt(32)
MIN_PAIRS = 32


@dataclass(frozen=True, slots=True, eq=False)
class LayerAnisotropy:
    """Error by angle; CPU float64, (bands, angles).

    angle: centres of the angle bins, rad in 0..pi/2, (angles,). error: mean of |z^ - z|^2 over the squared step of
    the pairs in a bin, NaN without pairs. count: pairs, int64. ratio: worst over best `error` among the bins of at
    least MIN_PAIRS pairs, (bands,); 1 is isotropic, inf where some angle has no error, NaN with no such bin or no
    error.
    """

    angle: Tensor
    error: Tensor
    count: Tensor
    ratio: Tensor


class Seen(NamedTuple):
    """Some tokens of one layer, (heads, tokens, pairs): angle bin, whether the pair counts, and its divided error."""

    angle: Tensor  # int32
    counts: Tensor
    relative: Tensor


class AnisotropyMeter(Meter):
    """Streams LayerAnisotropy of one layer, and beside it the same of errors that do not see the angle.

    Args:
        band_of_pair: int64 (rotary_dim // 2,).
        pairing: of the channels.
        angles: bins over 0..pi/2.
        swapped: whose error each pair takes in the null; None: no null.
    """

    def __init__(
        self, band_of_pair: Tensor, pairing: Pairing, angles: int = 16, swapped: Swapped | None = None
    ) -> None:
        if angles < 2:
            raise ValueError(f"angles must be >= 2, got {angles}")
        self.band_of_pair, self.pairing, self.angles = band_of_pair, pairing, angles
        self.swapped = swapped
        self.bands = int(band_of_pair.max()) + 1
        self.cells = self.bands * angles  # one more takes what does not count
        self.sums = torch.zeros(2, self.cells + 1, dtype=torch.float64)  # error, pairs
        self.tokens = 0  # that counted
        self.by_step = True  # False: divided by the error of the head's vector, as there is no step
        self.nulls = (
            [NullMeter(band_of_pair, swapped.heads, angles, swapped.spare(i)) for i in range(len(swapped.partners))]
            if swapped is not None
            else []
        )

    def update(
        self,
        x: Tensor,
        quantized: Tensor,
        step: Tensor | None = None,
        keep: Tensor | None = None,
        axes: Tensor | None = None,
    ) -> Seen:
        """Add x and its quantized version, both (heads, tokens, head_dim).

        Args:
            step: squared step of each pair, (heads, tokens, rotary_dim // 2); pairs without one are not rounded and
                do not count. None: there is no step, and errors are divided by the mean squared error of a rotated
                coordinate of their own head's vector at that token.
            keep: bool (tokens,): those that count; None: all.
            axes: x on the quantizer's axes, which says the angles; None: x is on them. RoPE turns error and step alike.
        Returns:
            What was booked, for the null of another layer.
        """
        self.to_device(x.device)
        self.tokens += x.shape[1] if keep is None else int(keep.sum())
        self.by_step = step is not None
        a, b = split_pairs(x.detach().float(), 2 * len(self.band_of_pair), self.pairing)  # (heads, tokens, r/2)
        a_hat, b_hat = split_pairs(quantized.detach().float(), 2 * len(self.band_of_pair), self.pairing)
        error = (a_hat - a).square_() + (b_hat - b).square_()
        size = error.mean(-1, keepdim=True).expand_as(error) / 2 if step is None else step.float()
        if axes is not None:
            a, b = split_pairs(axes.detach().float(), 2 * len(self.band_of_pair), self.pairing)
        angle = torch.atan2(b.abs(), a.abs()).mul_(self.angles / (math.pi / 2))
        cell = angle.to(torch.int32).clamp_(max=self.angles - 1)  # pi/2 itself belongs to the last
        counts = (size > 0) & ((a != 0) | (b != 0))
        if keep is not None:
            counts &= keep.to(counts.device)[:, None]
        seen = Seen(cell, counts, error / size)
        cell = torch.where(counts, cell + (self.band_of_pair * self.angles).to(cell), self.cells)
        flat = torch.where(counts, seen.relative, 0.0).reshape(-1)  # a step of 0 divides to nan
        for row, weight in enumerate((flat, None)):
            self.sums[row] += tally(cell.reshape(-1), self.cells + 1, weight).to(self.sums)
        if self.swapped is not None and self.swapped.source != "layer":
            self.book_null(seen, seen)
        return seen

    def book_null(self, own: Seen, other: Seen) -> None:
        """Book errors of `other` beside the angles of `own`, tokens of this layer; both hold the same tokens."""
        assert self.swapped is not None
        device = own.angle.device
        counts, relative = other.counts.to(device), other.relative.to(device)
        for of, null in zip(self.swapped.on(device), self.nulls):
            null.book(own, own.counts & _taken(counts, of), _taken(relative, of))

    def result(self) -> LayerAnisotropy:
        """Energies by angle so far."""
        self.to_device(CPU)
        return _by_angle(*self.sums[:, : self.cells].reshape(2, self.bands, self.angles))


class NullMeter(Meter):
    """Streams the null of one layer: other pairs' errors at each pair's angles, scaled to the pair's own mean error.

    The scale is known at the end, so errors are kept pair by pair; their number does not grow with the context.
    A pair whose partner turns out to have no error takes errors drawn at its own angles: as many as it has there, of
    its mean, and as uneven as two coordinates that are rounded to a step at random (uniform_spread).

    Args:
        band_of_pair: int64 (rotary_dim // 2,). heads: of K. angles: bins over 0..pi/2. seed: of those draws.
    """

    def __init__(self, band_of_pair: Tensor, heads: int, angles: int, seed: int = 0) -> None:
        self.band, self.angles, self.seed = band_of_pair.repeat(heads), angles, seed  # of (head, pair)
        self.cells = len(self.band) * angles  # one more takes what does not count
        # error of others, pairs beside it, the pair's own, and all pairs at that angle
        self.sums = torch.zeros(3, self.cells + 1, dtype=torch.float64)
        self.own = torch.zeros(2, len(self.band), dtype=torch.float64)  # sum of its own errors: beside others', and all

    def book(self, own: Seen, there: Tensor, error: Tensor) -> None:
        """Add other pairs' errors (heads, tokens, pairs) where `there`, beside the angles of `own`."""
        self.to_device(own.angle.device)
        heads, _, pairs = own.angle.shape
        at = torch.arange(heads * pairs, device=own.angle.device, dtype=torch.int32).view(heads, 1, pairs)
        cell = at * self.angles + own.angle
        beside = torch.where(there, cell, self.cells).reshape(-1)
        every = torch.where(own.counts, cell, self.cells).reshape(-1)
        weight = torch.where(there, error, 0.0).reshape(-1)
        for row, (where, of) in enumerate(((beside, weight), (beside, None), (every, None))):
            self.sums[row] += tally(where, self.cells + 1, of).to(self.sums)
        for row, where in enumerate((there, own.counts)):
            self.own[row] += torch.where(where, own.relative, 0.0).sum(1).flatten().to(self.own)

    def drawn(self) -> Tensor:
        """Which pairs have errors though their partner has none, bool (heads * pairs,)."""
        self.to_device(CPU)
        taken = self.sums[0, : self.cells].reshape(len(self.band), self.angles).sum(1)
        return (taken == 0) & (self.own[1] > 0)

    def result(self) -> LayerAnisotropy:
        """Energies by angle so far."""
        drawn = self.drawn()[:, None]
        error, count, every = self.sums[:, : self.cells].reshape(3, len(self.band), self.angles)
        taken = error.sum(1)
        scaled = error * torch.where(taken > 0, self.own[0] / taken, 0.0)[:, None]
        mean = (self.own[1] / every.sum(1)).nan_to_num(0.0)[:, None]
        source = torch.Generator().manual_seed(self.seed)
        off = torch.randn(every.shape, generator=source, dtype=torch.float64) * uniform_spread() * every.sqrt()
        scaled = torch.where(drawn, mean * (every + off).clamp_min(0.0), scaled)
        count = torch.where(drawn, every, count)
        both = torch.zeros(2, int(self.band.max()) + 1, self.angles, dtype=torch.float64)
        return _by_angle(*both.index_add_(1, self.band, torch.stack([scaled, count])))


def uniform_spread() -> float:
    """Standard deviation over mean of u^2 + v^2, u and v rounding errors: even between half a step down and up."""
    mean, square = 1 / 12, 1 / 80  # of u^2, and of its square
    return math.sqrt(2 * (square - mean**2)) / (2 * mean)


def _by_angle(error: Tensor, count: Tensor) -> LayerAnisotropy:
    """From sums of errors and their number, (bands, angles)."""
    mean = error / count
    enough = count >= MIN_PAIRS
    worst = mean.masked_fill(~enough, -math.inf).amax(1)
    best = mean.masked_fill(~enough, math.inf).amin(1)
    ratio = torch.where(enough.any(1), worst / best, math.nan)
    angles = error.shape[1]
    centre = (torch.arange(angles, dtype=torch.float64) + 0.5) * (math.pi / 2 / angles)
    return LayerAnisotropy(centre, mean, count.long(), ratio)


def _taken(x: Tensor, of: Tensor) -> Tensor:
    """x (heads, tokens, pairs) with another pair's in place of each one's; `of` indexes (heads * pairs,)."""
    return x.movedim(1, 0).flatten(1)[:, of].unflatten(1, (x.shape[0], x.shape[2])).movedim(0, 1)
