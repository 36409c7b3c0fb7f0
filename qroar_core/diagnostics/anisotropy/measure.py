"""Axis anisotropy: a quantizer works on coordinate axes, RoPE turns pairs off them, so error has an angle.

The error energy |z^ - z|^2 of each pair z = (a, b), divided by the squared step of its own quantizer, is booked under
the pair's angle atan2(|b|, |a|): 0 on its first axis, pi/4 on the diagonal, pi/2 on its second. The model's real K,
after RoPE, under the quantizer in force. Noise that does not see the angle shows one level at all angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qroar_core.maths.meters import CPU, Meter, tally
from qroar_core.maths.rope import Pairing, split_pairs

# fewer pairs at an angle say little: the relative standard error of a mean energy is near 1/sqrt(32)
MIN_PAIRS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Anisotropy:
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


class AnisotropyMeter(Meter):
    """Streams Anisotropy of one layer.

    Args:
        band_of_pair: int64 (rotary_dim // 2,).
        pairing: of the channels.
        angles: bins over 0..pi/2.
    """

    def __init__(self, band_of_pair: Tensor, pairing: Pairing, angles: int = 16) -> None:
        if angles < 2:
            raise ValueError(f"angles must be >= 2, got {angles}")
        self.band_of_pair, self.pairing, self.angles = band_of_pair, pairing, angles
        self.bands = int(band_of_pair.max()) + 1
        self.cells = self.bands * angles  # one more takes what does not count
        self.sums = torch.zeros(2, self.cells + 1, dtype=torch.float64)  # error, pairs
        self.tokens = 0  # that counted
        self.by_step = True  # False: divided by the error of the head's vector, as there is no step

    def update(self, x: Tensor, quantized: Tensor, step: Tensor | None = None,
               keep: Tensor | None = None) -> None:  # fmt: skip
        """Add x and its quantized version, both (heads, tokens, head_dim) on the quantizer's axes.

        Args:
            step: squared step of each pair, (heads, tokens, rotary_dim // 2); pairs without one are not rounded and
                do not count. None: there is no step, and errors are divided by the mean squared error of a rotated
                coordinate of their own head's vector at that token.
            keep: bool (tokens,): those that count; None: all.
        """
        self.follow(x.device)
        self.tokens += x.shape[1] if keep is None else int(keep.sum())
        self.by_step = step is not None
        a, b = split_pairs(x.detach().float(), 2 * len(self.band_of_pair), self.pairing)  # (heads, tokens, r/2)
        a_hat, b_hat = split_pairs(quantized.detach().float(), 2 * len(self.band_of_pair), self.pairing)
        error = (a_hat - a).square_() + (b_hat - b).square_()
        size = error.mean(-1, keepdim=True).expand_as(error) / 2 if step is None else step.float()
        angle = torch.atan2(b.abs(), a.abs()).mul_(self.angles / (math.pi / 2))
        cell = angle.to(torch.int32).clamp_(max=self.angles - 1)  # pi/2 itself belongs to the last
        cell += (self.band_of_pair * self.angles).to(cell)
        counts = (size > 0) & ((a != 0) | (b != 0))
        if keep is not None:
            counts &= keep.to(counts.device)[:, None]
        cell = torch.where(counts, cell, self.cells)
        flat = torch.where(cell < self.cells, error / size, 0.0).reshape(-1)  # a step of 0 divides to nan
        for row, weight in enumerate((flat, None)):
            self.sums[row] += tally(cell.reshape(-1), self.cells + 1, weight).to(self.sums)

    def result(self) -> Anisotropy:
        """Energies by angle so far."""
        self.follow(CPU)
        error, count = self.sums[:, : self.cells].reshape(2, self.bands, self.angles)
        mean = error / count
        centre = (torch.arange(self.angles, dtype=torch.float64) + 0.5) * (math.pi / 2 / self.angles)
        return Anisotropy(centre, mean, count.long(), worst_over_best(mean, count))


def worst_over_best(mean: Tensor, count: Tensor) -> Tensor:
    """(..., bands) of energies (..., bands, angles), among the angles of at least MIN_PAIRS pairs (bands, angles)."""
    enough = count >= MIN_PAIRS
    worst = mean.masked_fill(~enough, -math.inf).amax(-1)
    best = mean.masked_fill(~enough, math.inf).amin(-1)
    return torch.where(enough.any(-1), worst / best, math.nan)


def blind_energies(count: Tensor, level: float, draws: int, seed: int, layer: int) -> Tensor:
    """What the same figure shows of noise that does not see the angle, (draws, bands, angles), NaN without pairs.

    Normal noise has the widest spread among the errors of roundings, mixed (Hadamard, weights) or not: the energy of a
    pair over its mean is then exponential, and the mean of n of them Gamma(n) / n, whatever the pairs are.

    Args:
        count: pairs, (bands, angles). level: mean of the normalised energy.
        seed, layer: of the draws.
    """
    source = np.random.default_rng((seed, layer))
    drawn = source.standard_gamma(count.double().numpy(), (draws, *count.shape))
    return level * torch.from_numpy(drawn) / count
