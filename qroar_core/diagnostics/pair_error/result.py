"""Amplitude and phase error, as the file keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from qroar_core.axes import axes
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import Number, PerBand, Result

CONTROL = "errors of the same size, each pair's turned to a random angle"


class RandomAngle(Result):
    """The same with every pair's error turned to a random angle, mean over draws."""

    amplitude: Annotated[list[PerBand], axes("band", "bin")]
    phase: Annotated[list[PerBand], axes("band", "bin")]
    length_share: Annotated[list[PerBand], axes("band", "bin")]
    share: Number  # of all bands and positions together
    share_low: Number  # least and greatest of the draws
    share_high: Number


class PairErrors(Result):
    """Quantized K pairs as complex numbers, mean over layers, [band][bin]."""

    amplitude: Annotated[list[PerBand], axes("band", "bin")]  # RMS of |z^|/|z| - 1
    phase: Annotated[list[PerBand], axes("band", "bin")]  # RMS of arg(z^ conj z), rad, of pairs not rounded to zero
    # share of the error energy that is length, the rest is angle
    length_share: Annotated[list[PerBand], axes("band", "bin")]
    # share of pairs rounded to zero: no phase is left; None: an older file
    zeroed: Annotated[list[PerBand] | None, axes("band", "bin")] = None
    share: Number = None  # of the error energy of all layers, bands and positions together, what is length
    zeroed_share: Number = None  # of all pairs, those rounded to zero
    null: RandomAngle | None = None
    sample: Sample | None = None

    def contradictions(self) -> Iterator[str]:
        """A share of pairs without where they are."""
        if self.zeroed_share is not None and not self.zeroed:
            yield "zeroed_share: without zeroed"

    def null_rows(self) -> list[NullRow]:
        """The headline, and the RMS errors over all bands and positions, beside their null."""
        null = self.null
        if null is None:
            return []
        name = "Amplitude and phase error"
        share = NullRow(diagnostic=name, quantity="share of the error energy that is length", measured=self.share,
                        null=null.share, low=null.share_low, high=null.share_high, control=CONTROL)  # fmt: skip
        pairs = (
            ("amplitude error, RMS", self.amplitude, null.amplitude),
            ("phase error, rad, RMS", self.phase, null.phase),
        )
        return [share] + [
            NullRow(diagnostic=name, quantity=f"{quantity} over bands and positions", measured=root_mean_square(seen),
                    null=root_mean_square(drawn), control=CONTROL)
            for quantity, seen, drawn in pairs
        ]  # fmt: skip


def root_mean_square(values: list[PerBand]) -> Number:
    """Over all cells that hold a number."""
    there = [v for row in values for v in row if v is not None]
    return (sum(v * v for v in there) / len(there)) ** 0.5 if there else None
