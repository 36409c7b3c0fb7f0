"""Amplitude and phase error, as the file keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import Number, PerBand, Result
from qroar_core.result_shapes import axes

CONTROL = "errors of the same size, each pair's turned to a random angle"
OLDER = (
    "this file is from before 2026-11-29 and does not keep how many pairs are rounded at each position: all positions "
    "weigh alike"
)
Counts = Sequence[Sequence[int]]


class RandomAngle(Result):
    """The same with every pair's error turned to a random angle, mean over draws."""

    amplitude: Annotated[list[PerBand], axes("band", "bin")]
    phase: Annotated[list[PerBand], axes("band", "bin")]
    length_share: Annotated[list[PerBand], axes("band", "bin")]
    share: Number  # of all bands and positions together
    share_low: Number  # least and greatest of the draws
    share_high: Number


class PairErrors(Result):
    """Quantized K pairs as complex numbers, pooled over layers and KV heads, [band][bin].

    Bins hold more or fewer pairs that count: keys that the cache still holds exactly are in none. What is said of whole
    bands, or of all, weighs bins by these numbers.
    """

    amplitude: Annotated[list[PerBand], axes("band", "bin")]  # RMS of |z^|/|z| - 1
    phase: Annotated[list[PerBand], axes("band", "bin")]  # RMS of arg(z^ conj z), rad, of pairs not rounded to zero
    # share of the error energy that is length, the rest is angle; mean over layers
    length_share: Annotated[list[PerBand], axes("band", "bin")]
    # share of pairs rounded to zero: no phase is left; None: an older file
    zeroed: Annotated[list[PerBand] | None, axes("band", "bin")] = None
    # how many pairs count, and of these how many keep a phase, over layers and KV heads; empty: an older file
    pairs: Annotated[list[list[int]], axes("band", "bin")] = []
    with_phase: Annotated[list[list[int]], axes("band", "bin")] = []
    share: Number = None  # of the error energy of all layers, bands and positions together, what is length
    zeroed_share: Number = None  # of all pairs, those rounded to zero
    null: RandomAngle | None = None
    sample: Sample | None = None

    def contradictions(self) -> Iterator[str]:
        """A share of pairs without where they are, and half of the counts."""
        if self.zeroed_share is not None and not self.zeroed:
            yield "zeroed_share: without zeroed"
        if bool(self.pairs) != bool(self.with_phase):
            yield "pairs and with_phase: only one of them is there"

    @property
    def older(self) -> str:
        """What captions say of a file that does not count its pairs."""
        return "" if self.pairs else f" {OLDER[0].upper()}{OLDER[1:]}."

    def amplitude_by_band(self, of: RandomAngle | None = None) -> PerBand:
        """RMS over all pairs of a band that count; `of`: of the null in place of the errors."""
        return over_bins((of or self).amplitude, self.pairs)

    def phase_by_band(self, of: RandomAngle | None = None) -> PerBand:
        """The same of the phase, over pairs that keep one: those of the null nearly all do."""
        return over_bins(of.phase, self.pairs) if of else over_bins(self.phase, self.with_phase)

    def zeroed_by_band(self) -> PerBand:
        """Share of a band's pairs that are rounded to zero; empty in a file that does not know."""
        return over_bins(self.zeroed or [], self.pairs, 1)

    def null_rows(self) -> list[NullRow]:
        """The headline, and the RMS errors over all bands and positions, beside their null."""
        null = self.null
        if null is None:
            return []
        name = "Amplitude and phase error"
        share = NullRow(
            diagnostic=name,
            quantity="share of the error energy that is length",
            measured=self.share,
            null=null.share,
            low=null.share_low,
            high=null.share_high,
            control=CONTROL,
        )
        pairs = (
            ("amplitude error", pooled(self.amplitude, self.pairs), pooled(null.amplitude, self.pairs)),
            ("phase error, rad", pooled(self.phase, self.with_phase), pooled(null.phase, self.pairs)),
        )
        return [share] + [
            NullRow(
                diagnostic=name,
                quantity=f"{quantity}, RMS over pairs of all bands and positions",
                measured=seen,
                null=drawn,
                control=CONTROL if self.pairs else f"{CONTROL}; {OLDER}",
            )
            for quantity, seen, drawn in pairs
        ]


def over_bins(values: Sequence[PerBand], counts: Counts, power: int = 2) -> PerBand:
    """Of each band: root mean square (power 2) or mean (1) over its pairs, from those of its bins.

    Args:
        values, counts: [band][bin]. Without counts bins weigh alike.
    """
    return [pooled([row], counts[b : b + 1], power) for b, row in enumerate(values)]


def pooled(values: Sequence[PerBand], counts: Counts, power: int = 2) -> Number:
    """The same over all bands and bins; None where nothing was counted."""
    weights = counts or [[1] * len(row) for row in values]
    cells = [(v, n) for row, many in zip(values, weights, strict=True) for v, n in zip(row, many, strict=True)]
    known = [(v, n) for v, n in cells if v is not None]
    total = sum(n for _, n in known)
    return (sum(n * v**power for v, n in known) / total) ** (1 / power) if total else None
