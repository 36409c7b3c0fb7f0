"""Error by angle, as the file keeps it."""

from __future__ import annotations

from typing import Literal

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tails.result import range_of
from qroar_core.result import LayerBand, Number, PerBand, Result

LEAST_DRAWS = 39  # fewer than 40 draws leave no 95 % range
CONTROL = "noise of the same size that does not see the angle, at the same pairs; 95 % of the draws"


class AngleBlindNoise(Result):
    """Noise of the same size that does not see the angle, at the same pairs."""

    error: list[PerBand]  # mean over layers and draws, [band][angle bin]
    error_low: list[PerBand] = []  # what 95 % of the draws lie in; empty: a file that drew once, as the next
    error_high: list[PerBand] = []
    ratio: LayerBand  # mean over draws
    largest: list[Number]  # the largest ratio of each draw


class Anisotropy(Result):
    """Error energy of a pair over its squared step by its angle (mean over layers), [band][angle bin].

    A file from before the mending (no sample) holds the bare energy, by the angle modulo pi/2.
    """

    angle: list[float]  # rad, 0..pi/2: atan2(|b|, |a|) of a pair (a, b)
    error: list[PerBand]
    ratio: LayerBand  # worst angle over best, [layer][band]
    over: Literal["step", "error"] | None = None  # divided by the squared step, or the vector's mean squared error
    null: AngleBlindNoise | None = None
    sample: Sample | None = None

    @property
    def largest(self) -> Number:
        """The largest ratio of all layers and bands."""
        return max((r for row in self.ratio for r in row if r is not None), default=None)

    @property
    def null_largest(self) -> Number:
        """The same of the null, mean over draws."""
        drawn = self._drawn
        return sum(drawn) / len(drawn) if drawn else None

    @property
    def null_range(self) -> tuple[float, float] | None:
        """What 95 % of the null's draws lie in; None where it was drawn too few times to say."""
        return range_of(self._drawn) if len(self._drawn) > LEAST_DRAWS else None

    @property
    def _drawn(self) -> list[float]:
        return [] if self.null is None else [x for x in self.null.largest if x is not None]

    def null_rows(self) -> list[NullRow]:
        """The headline beside its null."""
        if self.null is None:
            return []
        low, high = self.null_range or (None, None)
        return [NullRow(
            diagnostic="Axis anisotropy", quantity="worst over best angle, largest of all layers and bands",
            measured=self.largest, null=self.null_largest, low=low, high=high, control=CONTROL,
        )]  # fmt: skip
