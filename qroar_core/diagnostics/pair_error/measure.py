"""Amplitude and phase error of quantized RoPE pairs: how much of the damage is length and how much is angle.

A pair z (complex) and its quantized z^ give the amplitude error |z^|/|z| - 1 and the phase error
arg(z^ conj z). The error energy splits without remainder,

    |z^ - z|^2 = (|z^| - |z|)^2 + 2 |z| |z^| (1 - cos arg(z^ conj z)),

into a part of length and a part of angle; `length_share` is the first over the whole, and unlike the relative
errors it is not ruled by the smallest pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qroar_core.diagnostics.angle_blind import AngleBlind
from qroar_core.maths.meters import CPU, Meter
from qroar_core.maths.positions import PositionBins
from qroar_core.maths.rope import Pairing, split_pairs

RELATIVE = ("amplitude", "amplitude_square", "phase", "phase_square")  # sums of the errors and their squares
ENERGY = ("length_energy", "energy")  # of the error, the part in length and the whole
COUNT = ("turned", "zeroed", "pairs")  # pairs with a phase left, rounded to zero, and all
# of its exact length, what is left of a pair that counts as rounded to zero: behind a Hadamard rotation zero is met
# but for the arithmetic
ZERO = 1e-5
FIELDS = RELATIVE + ENERGY + COUNT


@dataclass(frozen=True, slots=True, eq=False)
class PairError:
    """By band and position bin; CPU float64, (bands, bins), NaN where nothing was measured.

    amplitude_rms, amplitude_mean: of |z^|/|z| - 1 (a negative mean: pairs shrink). phase_rms, phase_mean: of
    arg(z^ conj z), rad, over the pairs not rounded to zero. zeroed: share of pairs rounded to zero, whose
    phase is lost. length_share: part of the error energy that is length, 0..1.
    """

    amplitude_rms: Tensor
    amplitude_mean: Tensor
    phase_rms: Tensor
    phase_mean: Tensor
    zeroed: Tensor
    length_share: Tensor


class PairErrorMeter(Meter):
    """Streams PairError of one layer, and beside it that of errors as large at a random angle.

    Args:
        band_of_pair: int64 (rotary_dim // 2,).
        pairing: of the channels.
        bins: of position.
        layer, blind: what those angles are drawn for and from; None: no null.
    """

    def __init__(
        self,
        band_of_pair: Tensor,
        pairing: Pairing,
        bins: PositionBins,
        layer: int = 0,
        blind: AngleBlind | None = None,
    ) -> None:
        self.band_of_pair, self.pairing, self.bins = band_of_pair, pairing, bins
        self.layer, self.blind = layer, blind
        self.sums = torch.zeros(len(FIELDS), len(band_of_pair), bins.count, dtype=torch.float64)
        self.tokens = 0  # that counted
        self.nulls = [PairErrorMeter(band_of_pair, pairing, bins) for _ in range(blind.draws if blind else 0)]

    def update(self, start: int, x: Tensor, quantized: Tensor, keep: Tensor | None = None) -> None:
        """Add x and its quantized version, both (heads, tokens, head_dim), from position `start`.

        Pairs of x that are zero have no relative error: skipped.

        Args:
            keep: bool (tokens,): those that count; None: all.
        """
        self.tokens += x.shape[1] if keep is None else int(keep.sum())
        for draw, null in enumerate(self.nulls):
            assert self.blind is not None
            null.update(start, x, self.blind.turned(draw, self.layer, start, x, quantized, self.pairing), keep)
        self.to_device(x.device)
        rotary_dim = 2 * len(self.band_of_pair)
        a, b = split_pairs(x.detach().float(), rotary_dim, self.pairing)  # (heads, tokens, r/2)
        a_hat, b_hat = split_pairs(quantized.detach().float(), rotary_dim, self.pairing)
        norm, norm_hat = (a.square() + b.square()).sqrt_(), (a_hat.square() + b_hat.square()).sqrt_()
        there = norm > 0
        if keep is not None:
            there &= keep.to(there.device)[:, None]
        kept = there & (norm_hat > ZERO * norm)
        phase = torch.atan2(b_hat * a - a_hat * b, a_hat * a + b_hat * b)
        amplitude = (norm_hat - norm).div_(norm).masked_fill_(~there, 0.0)
        phase.masked_fill_(~kept, 0.0)
        energy = ((a_hat - a).square_() + (b_hat - b).square_()) * there
        length_energy = (norm_hat - norm).square_() * there
        relative = (amplitude, amplitude.square(), phase, phase.square())
        fields = (*relative, length_energy, energy, kept, there & ~kept, there)  # in the order of FIELDS
        for p, cut in self.bins.segments(start, x.shape[1]):
            for row, field in enumerate(fields):
                self.sums[row, :, p] += field[:, cut].sum((0, 1)).to(self.sums)

    def totals(self) -> dict[str, Tensor]:
        """The sums so far by name, (bands, bins) each; CPU float64."""
        self.to_device(CPU)
        bands = int(self.band_of_pair.max()) + 1
        total = torch.zeros(len(FIELDS), bands, self.bins.count, dtype=torch.float64)
        return dict(zip(FIELDS, total.index_add_(1, self.band_of_pair, self.sums), strict=True))

    def result(self) -> PairError:
        """Errors so far."""
        s = self.totals()
        return PairError(
            (s["amplitude_square"] / s["pairs"]).sqrt(),
            s["amplitude"] / s["pairs"],
            (s["phase_square"] / s["turned"]).sqrt(),
            s["phase"] / s["turned"],
            s["zeroed"] / s["pairs"],
            s["length_energy"] / s["energy"],
        )
