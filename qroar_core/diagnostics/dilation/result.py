"""Ranges by position, as the file keeps them."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, PerBand, Result
from qroar_core.result_shapes import axes

QUANTILE_BOUND = 2.0**-6  # of maths/sketches.py's LogHistogram as it stands by default
CONTROL = "every token assigned to a random position bin"


class DilationNull(Result):
    """The same ranges where each token's bin is drawn at random: what bins differ by when position means nothing."""

    LOCAL: ClassVar = ("draw",)

    absmax_low: LayerBand  # [layer][band], least over bins and draws of the largest over KV heads
    absmax_high: LayerBand
    largest: Annotated[list[PerBand], axes("draw", "layer")]  # [draw][layer]: the most bits lost of all bands and bins
    # [draw][layer][band]: the most bits lost of all bins; empty: an older file
    lost: Annotated[list[LayerBand], axes("draw", "layer", "band")] = []


class Dilation(Result):
    """Range by position, K after RoPE, [layer][band][bin].

    absmax and bits_lost are those of the KV head where they are largest. rms is over all values of all KV heads, and
    so are the quantiles of |k|, each within `quantile_bound` of its value. Every token counts.
    """

    absmax: Annotated[list[list[PerBand]], axes("layer", "band", "bin")]
    rms: Annotated[list[list[PerBand]], axes("layer", "band", "bin")]
    bits_lost: Annotated[list[list[PerBand]], axes("layer", "band", "bin")]
    # "0.5", "0.99", "0.999" -> [layer][band][bin]
    quantiles: Annotated[dict[str, list[list[PerBand]]], axes("layer", "band", "bin")]
    # the largest relative error of a quantile: they are read off a histogram; older files have the same
    quantile_bound: float = QUANTILE_BOUND
    null: DilationNull | None = None  # None: from an older version
    sample: Sample | None = None

    def null_rows(self) -> list[NullRow]:
        """The most bits lost anywhere, beside the same with tokens dealt to bins at random."""
        drawn = [
            max(known)
            for row in (self.null.largest if self.null else [])
            if (known := [v for v in row if v is not None])
        ]
        if not drawn:
            return []
        return [
            NullRow(
                diagnostic="Range by position",
                quantity="bits lost, largest layer, band and bin",
                measured=max(
                    (v for layer in self.bits_lost for row in layer for v in row if v is not None), default=None
                ),
                null=math.fsum(drawn) / len(drawn),
                low=min(drawn),
                high=max(drawn),
                control=CONTROL,
            )
        ]
