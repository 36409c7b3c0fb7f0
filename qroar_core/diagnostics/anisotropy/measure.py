"""Axis anisotropy: a quantizer works on coordinate axes, RoPE turns pairs off them, so error has an angle.

The error energy |z^ - z|^2 of each pair z is booked under the pair's angle mod pi/2 (axes at 0 and pi/2, the
diagonal at pi/4), from the model's real K under the quantizer in force. An isotropic quantizer shows one
level at all angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.maths.meters import CPU, Meter, tally
from qroar_core.maths.rope import Pairing, split_pairs

# fewer pairs at an angle say little: the relative standard error of a mean energy is near 1/sqrt(32)
MIN_PAIRS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Anisotropy:
    """Error by angle; CPU float64, (bands, angles).

    angle: centres of the angle bins, rad in 0..pi/2, (angles,). error, energy: mean |z^ - z|^2 and mean |z|^2
    of the pairs in a bin, NaN without pairs. count: pairs, int64. ratio: worst over best `error` among the
    bins of at least MIN_PAIRS pairs, (bands,); 1 is isotropic, inf where some angle has no error, NaN with no
    such bin or no error. relative_ratio: the same of error / energy, which discounts that louder pairs prefer
    some angles.
    """

    angle: Tensor
    error: Tensor
    energy: Tensor
    count: Tensor
    ratio: Tensor
    relative_ratio: Tensor


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
        self.sums = torch.zeros(3, self.bands * angles, dtype=torch.float64)  # error, energy, pairs

    def update(self, x: Tensor, quantized: Tensor) -> None:
        """Add x and its quantized version, both (heads, tokens, head_dim) on the quantizer's axes."""
        self.follow(x.device)
        rotary_dim = 2 * len(self.band_of_pair)
        a, b = split_pairs(x.detach().float(), rotary_dim, self.pairing)  # (heads, tokens, r/2)
        a_hat, b_hat = split_pairs(quantized.detach().float(), rotary_dim, self.pairing)
        quarter = math.pi / 2
        angle = torch.atan2(b, a).remainder_(quarter).mul_(self.angles / quarter)
        cell = angle.to(torch.int32).clamp_(max=self.angles - 1)  # remainder may round up to pi/2 itself
        cell = (cell + (self.band_of_pair * self.angles).to(cell)).reshape(-1)
        error = (a_hat - a).square_() + (b_hat - b).square_()
        for row, weight in enumerate((error, a.square() + b.square(), None)):
            flat = None if weight is None else weight.reshape(-1)
            self.sums[row] += tally(cell, self.sums.shape[1], flat).to(self.sums)

    def result(self) -> Anisotropy:
        """Energies by angle so far."""
        self.follow(CPU)
        error, energy, count = self.sums.reshape(3, self.bands, self.angles)
        mean_error, mean_energy = error / count, energy / count
        enough = count >= MIN_PAIRS

        def spread(level: Tensor) -> Tensor:
            worst = level.masked_fill(~enough, -math.inf).amax(1)
            best = level.masked_fill(~enough, math.inf).amin(1)
            return torch.where(enough.any(1), worst / best, math.nan)

        centre = (torch.arange(self.angles, dtype=torch.float64) + 0.5) * (math.pi / 2 / self.angles)
        ratios = spread(mean_error), spread(mean_error / mean_energy)
        return Anisotropy(centre, mean_error, mean_energy, count.long(), *ratios)
