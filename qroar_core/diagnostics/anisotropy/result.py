"""Error by angle, as the file keeps it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, Number, PerBand, Result
from qroar_core.result_shapes import axes

BLIND_NOISE = "noise of the same size that does not see the angle, at the same pairs"  # of a file before `SWAPPED`
SWAPPED = "the same errors, each beside the angle of another pair of its band and another KV head"
OTHER_LAYER = "the same errors, each beside the angle of another pair of its band at the same token of another layer"
SAME_VECTOR = "the same errors, each beside the angle of another pair of its band in the same vector"


SCALED = ", scaled to the pair's own mean error"  # since 2026-11-29; without it the null takes pairs for angles


class AngleBlindNoise(Result):
    """Errors of the same size that do not see the angle."""

    error: Annotated[list[PerBand], axes("band", "angle")]  # mean over layers and draws, [band][angle bin]
    ratio: LayerBand  # mean over draws
    largest: Annotated[list[Number], axes("draw")]  # the largest ratio of each draw
    # the mean ratio over layers and bands, draw by draw
    typical: Annotated[list[Number], axes("draw")] = []
    control: str = BLIND_NOISE  # what was done
    lone: int = 0  # pairs, of all layers and heads, whose partner has no error: theirs are drawn; mean over draws
    pairs: int = 0  # how many there are; 0: an older file

    @property
    def drawn_instead(self) -> str:
        """For how many pairs errors are drawn, as their partner has none; nothing where every partner has some."""
        if not self.lone:
            return ""
        return f"; for {self.lone:,} of {self.pairs:,} pairs, whose partner has none, rounding errors drawn at random"


class Anisotropy(Result):
    """Error energy of a pair over its squared step by its angle (mean over layers), [band][angle bin].

    A file from before the mending (no sample) holds the bare energy, by the angle modulo pi/2.
    """

    LOCAL: ClassVar = ("draw", "angle")

    angle: Annotated[list[float], axes("angle")]  # rad, 0..pi/2: atan2(|b|, |a|) of a pair (a, b)
    error: Annotated[list[PerBand], axes("band", "angle")]
    ratio: LayerBand  # worst angle over best, [layer][band]
    over: Literal["step", "error"] | None = None  # divided by the squared step, or the vector's mean squared error
    before_rope: bool = False  # K is rounded before RoPE
    # the angles are those before RoPE, on the axes of the quantizer that rounds K there; where `before_rope` alone is
    # true, in an older file, they are those after it
    angle_before_rope: bool = False
    null: AngleBlindNoise | None = None
    sample: Sample | None = None

    @property
    def largest(self) -> Number:
        """The largest ratio of all layers and bands."""
        return max((r for row in self.ratio for r in row if r is not None), default=None)

    @property
    def typical(self) -> Number:
        """The mean ratio over layers and bands: one cell with few pairs does not rule it, as it does the largest."""
        return _mean(r for row in self.ratio for r in row)

    @property
    def null_largest(self) -> Number:
        """The largest ratio of the null, mean over draws."""
        return None if self.null is None else _mean(self.null.largest)

    @property
    def null_typical(self) -> Number:
        """The mean ratio of the null over layers, bands and draws."""
        return None if self.null is None else _mean(r for row in self.null.ratio for r in row)

    def above_null(self) -> tuple[float, float] | None:
        """How far the ratio is above its null: mean over the cells of layers and bands, and its standard error.

        None where fewer than two cells have both.
        """
        if self.null is None:
            return None
        rows = zip(self.ratio, self.null.ratio, strict=True)
        off = [a - b for row in rows for a, b in zip(*row, strict=True) if a is not None and b is not None]
        if len(off) < 2:
            return None
        return statistics.fmean(off), statistics.stdev(off) / math.sqrt(len(off))

    def null_rows(self) -> list[NullRow]:
        """The mean and the largest ratio beside their null."""
        null = self.null
        if null is None:
            return []
        return [
            NullRow(
                diagnostic="Axis anisotropy",
                quantity=f"worst over best angle, {what} of all layers and bands",
                measured=measured,
                null=middle,
                low=min(drawn, default=None),
                high=max(drawn, default=None),
                control=f"{null.control}{null.drawn_instead}",
            )
            for what, measured, middle, drawn in (
                ("mean", self.typical, self.null_typical, [x for x in null.typical if x is not None]),
                ("largest", self.largest, self.null_largest, [x for x in null.largest if x is not None]),
            )
        ]


def _mean(values: Iterable[Number]) -> Number:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
