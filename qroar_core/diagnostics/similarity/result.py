"""Similarity of hidden states, as the file keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import Number, Result
from qroar_core.result_shapes import axes

# 20 log10(2^24): fp32 cannot show a smaller difference; a mean without any error counts as this many dB
EXACT_DB = 20 * math.log10(2.0**24)
NO_ERROR = "no error"  # in place of the upper end of an interval that reaches EXACT_DB
RANDOM_DIRECTION = "errors as large as each row's own at a random direction; 2 standard errors over the directions"


class Accumulation(Result):
    """Each layer's output error split into what entered the layer and what changed in it, over the reference's energy.

    inherited + added + cross is the whole relative error of the layer's output. By [layer] means over all sampled rows,
    by [layer][bin] over those of a bin.
    """

    inherited: Annotated[list[Number], axes("layer")]
    added: Annotated[list[Number], axes("layer")]
    # twice the inner product of the two; below 0 the layer takes back part of what it inherits
    cross: Annotated[list[Number], axes("layer")]
    # 2 standard errors of cross around 0, were the sign of what is added drawn for each row
    cross_null: Annotated[list[Number], axes("layer")]
    share_added: Annotated[list[Number], axes("layer")]  # added / (added + inherited)
    share_added_error: Annotated[list[Number], axes("layer")]  # 2 standard errors, delta method over rows
    inherited_by_bin: Annotated[list[list[Number]], axes("layer", "bin")]
    added_by_bin: Annotated[list[list[Number]], axes("layer", "bin")]
    cross_by_bin: Annotated[list[list[Number]], axes("layer", "bin")]

    def whole(self) -> list[Number]:
        """The relative error of each layer's output."""
        rows = zip(self.inherited, self.added, self.cross, strict=True)
        return [None if a is None or b is None or c is None else a + b + c for a, b, c in rows]

    def share_null(self) -> list[float]:
        """Share added were every layer to add the same energy at random to what it inherits: one in those so far."""
        return [1 / (i + 1) for i in range(len(self.added))]

    def cross_share(self) -> list[Number]:
        """The cross term over added + inherited, between -1 and 1."""
        return _over(self.cross, self.inherited, self.added)

    def cross_share_null(self) -> list[Number]:
        """How far it is from 0 by chance."""
        return _over(self.cross_null, self.inherited, self.added)


class HiddenSimilarity(Result):
    """Each layer's output, reference against quantized, [layer][bin] unless said."""

    cosine: Annotated[list[list[Number]], axes("layer", "bin")]  # mean over rows
    # for errors as large at a random direction, and 2 standard errors of a bin of as many rows on either side of it;
    # empty: a file from before 2026-11-30
    cosine_null: Annotated[list[list[Number]], axes("layer", "bin")] = []
    cosine_null_low: Annotated[list[list[Number]], axes("layer", "bin")] = []
    cosine_null_high: Annotated[list[list[Number]], axes("layer", "bin")] = []
    # of the mean relative error |x - y|^2 / |x|^2 over rows; 144.5 without any error
    sqnr_db: Annotated[list[list[Number]], axes("layer", "bin")]
    # 2 standard errors of that mean, as the next, which is 144.5 where they reach no error at all; None: of one row
    sqnr_low: Annotated[list[list[Number]], axes("layer", "bin")] = []
    sqnr_high: Annotated[list[list[Number]], axes("layer", "bin")] = []
    # of sum |x - y|^2 / sum |x|^2, ruled by the longest rows
    pooled_sqnr_db: Annotated[list[list[Number]], axes("layer", "bin")] = []
    layer_sqnr_db: Annotated[list[Number], axes("layer")] = []  # [layer], over all sampled rows: the null of each bin
    # 2 standard errors of a bin, were rows dealt to bins at random; as the next
    null_low: Annotated[list[list[Number]], axes("layer", "bin")] = []
    null_high: Annotated[list[list[Number]], axes("layer", "bin")] = []
    accumulation: Accumulation | None = None
    sample: Sample | None = None  # None: a file from before position 0 was left out and errors were averaged

    def contradictions(self) -> Iterator[str]:
        """Nulls and intervals of which only some are there."""
        parts = (self.sqnr_low, self.sqnr_high, self.layer_sqnr_db, self.null_low, self.null_high)
        if any(parts) and not all(parts):
            yield "sqnr_low, sqnr_high, layer_sqnr_db, null_low and null_high: only some of them are there"
        cosine = (self.cosine_null, self.cosine_null_low, self.cosine_null_high)
        if any(cosine) and not all(cosine):
            yield "cosine_null, cosine_null_low and cosine_null_high: only some of them are there"
        if self.accumulation is not None and not all(parts):
            yield "accumulation: without the nulls beside it"

    def null_rows(self) -> list[NullRow]:
        """The last layer's last bin, its share of what is added, and its cross term, each beside its null."""
        if self.accumulation is None:
            return []
        blind = (
            NullRow(
                diagnostic="Hidden states",
                quantity="cosine in the last position bin, last layer",
                measured=self.cosine[-1][-1],
                null=self.cosine_null[-1][-1],
                low=self.cosine_null_low[-1][-1],
                high=self.cosine_null_high[-1][-1],
                control=RANDOM_DIRECTION,
            )
            if self.cosine_null
            else None
        )
        parts = self.accumulation
        off = parts.cross_share_null()[-1]
        return [
            NullRow(
                diagnostic="Hidden states",
                quantity="SQNR in the last position bin, last layer, dB",
                measured=self.sqnr_db[-1][-1],
                null=self.layer_sqnr_db[-1],
                low=self.null_low[-1][-1],
                high=self.null_high[-1][-1],
                open_above=NO_ERROR if exact(self.null_high[-1][-1]) else "",
                error=half_interval(self.sqnr_db[-1][-1], self.sqnr_low[-1][-1], self.sqnr_high[-1][-1]),
                control="rows assigned to position bins at random; 2 standard errors",
            ),
            *([blind] if blind else []),
            NullRow(
                diagnostic="Error accumulation",
                quantity="share that the last layer adds",
                measured=parts.share_added[-1],
                null=parts.share_null()[-1],
                error=parts.share_added_error[-1],
                control="every layer adds the same energy at random to what it inherits",
            ),
            NullRow(
                diagnostic="Error accumulation",
                quantity="cross term over added and inherited, last layer",
                measured=parts.cross_share()[-1],
                null=0.0,
                low=None if off is None else -off,
                high=off,
                control="sign of what the layer adds drawn for each row; 2 standard errors",
            ),
        ]


def exact(sqnr: Number) -> bool:
    """Whether these decibels stand for no error at all; files hold six digits."""
    return sqnr is not None and sqnr > EXACT_DB - 0.001


def half_interval(middle: Number, low: Number, high: Number) -> Number:
    """Half of an interval of decibels, of one that is open above the lower arm; None where it has no width."""
    if middle is None or low is None:
        return None
    arm = middle - low if high is None or exact(high) else (high - low) / 2
    return arm or None


def _over(part: list[Number], *whole: list[Number]) -> list[Number]:
    """Each of `part` over the sum of those beside it; None where that is no number."""
    out: list[Number] = []
    for value, *rest in zip(part, *whole, strict=True):
        total = None if None in rest else sum(v for v in rest if v is not None)
        out.append(value / total if value is not None and total else None)
    return out
