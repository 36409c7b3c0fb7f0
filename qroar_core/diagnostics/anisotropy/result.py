"""Error by angle, as the file keeps it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from qroar_core.axes import axes
from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, Number, PerBand, Result


class AngleBlindNoise(Result):
    """Noise of the same size that does not see the angle, at the same pairs."""

    error: Annotated[list[PerBand], axes("band", "angle")]  # mean over layers and draws, [band][angle bin]
    ratio: LayerBand  # mean over draws
    largest: Annotated[list[Number], axes("draw")]  # the largest ratio of each draw


class Anisotropy(Result):
    """Error energy of a pair over its squared step by its angle (mean over layers), [band][angle bin].

    A file from before the mending (no sample) holds the bare energy, by the angle modulo pi/2.
    """

    LOCAL: ClassVar = ("draw", "angle")

    angle: Annotated[list[float], axes("angle")]  # rad, 0..pi/2: atan2(|b|, |a|) of a pair (a, b)
    error: Annotated[list[PerBand], axes("band", "angle")]
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
        drawn = [] if self.null is None else [x for x in self.null.largest if x is not None]
        return sum(drawn) / len(drawn) if drawn else None

    def null_rows(self) -> list[NullRow]:
        """The headline beside its null."""
        if self.null is None:
            return []
        drawn = [x for x in self.null.largest if x is not None]
        row = NullRow(
            diagnostic="Axis anisotropy",
            quantity="worst over best angle, largest of all layers and bands",
            measured=self.largest,
            null=self.null_largest,
            low=min(drawn, default=None),
            high=max(drawn, default=None),
            control="noise of the same size that does not see the angle, at the same pairs",
        )
        return [row]
