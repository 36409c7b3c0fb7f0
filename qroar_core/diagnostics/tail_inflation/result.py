"""Tail inflation and the distributions behind it, as the file keeps them.

The papers' names: rho_W is the ratio before RoPE, of what W_Q and W_K put out; rho_A the ratio after RoPE, on the axes
that a quantizer of activations or of the K cache rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

from qroar_core.diagnostics.null import NullRow
from qroar_core.diagnostics.sample import Sample
from qroar_core.result import LayerBand, LayerHeadBand, Result
from qroar_core.result_shapes import axes

RHO = {"pre": "rho_W", "post": "rho_A"}
TENSORS = {"k/post": "K after RoPE", "k/pre": "K before RoPE", "q/post": "Q after RoPE", "q/pre": "Q before RoPE"}
NULL_SHARE = 0.95  # of the draws of a null that its range holds


class TailNull(Result):
    """The ratios where the long and the short side of windows trade places: what they are if length changes nothing.

    Ranges hold 95 % of the draws, and all of them with fewer than 6 windows: then no cell can lie outside.
    """

    low: LayerHeadBand
    high: LayerHeadBand
    map_low: LayerBand  # of the largest ratio over KV heads, which the map shows
    map_high: LayerBand
    # over all cells, draw by draw; the draws are the same ones for every tensor
    largest: Annotated[list[float], axes("swap")]
    control: str  # what was done


class TailTable(Result):
    """Tail inflation of one tensor on one side of RoPE; intervals by bootstrap over windows.

    `ratio` is rho_W in the tables "q/pre" and "k/pre", rho_A in "q/post" and "k/post".
    """

    ratio: LayerHeadBand
    low: LayerHeadBand
    high: LayerHeadBand
    long: LayerHeadBand  # the quantile itself at long context
    short: LayerHeadBand
    native: LayerHeadBand | None  # long under this PI over short under native RoPE, without any interpolation
    null: TailNull | None = None  # None: from an older version
    sample: Sample | None = None

    @property
    def largest(self) -> float | None:
        """The largest ratio of all cells."""
        return max((v for layer in self.ratio for head in layer for v in head if v is not None), default=None)


class Survival(Result):
    """How |x| is distributed, one tensor on one side of RoPE: the same tokens at long and at short context.

    Element i of a curve is the least |x| that at most `share[i]` of the entries exceed; None where fewer than
    1 / share[i] were seen. The tail is exact, the body within `body_bound` of its value.
    """

    LOCAL: ClassVar = ("share",)

    share: Annotated[list[float], axes("share")]
    long: Annotated[list[LayerHeadBand], axes("layer", "kv_head", "band", "share")]  # [layer][kv_head][band][share]
    short: Annotated[list[LayerHeadBand], axes("layer", "kv_head", "band", "share")]
    body_bound: float
    sample: Sample | None = None


def null_rows(tails: Mapping[str, TailTable]) -> list[NullRow]:
    """The largest cell of each tensor beside the largest cell where sides are swapped."""
    rows = []
    for which, words in TENSORS.items():
        table = tails.get(which)
        if table is None or table.null is None:
            continue
        low, high = range_of(table.null.largest)
        draws = table.null.largest
        rows.append(
            NullRow(
                diagnostic="Tails",
                quantity=f"{RHO[which.split('/')[1]]} of {words}, largest cell",
                measured=table.largest,
                null=math.fsum(draws) / len(draws),
                low=low,
                high=high,
                control=table.null.control,
            )
        )
    return rows


def largest_null(tables: Iterable[TailTable]) -> tuple[float, float] | None:
    """Range of the largest cell of several tensors where sides are swapped; None without a null in each."""
    draws = [table.null.largest if table.null else [] for table in tables]
    if not draws or not all(draws):
        return None
    return range_of([max(same) for same in zip(*draws, strict=True)])


def range_of(draws: list[float]) -> tuple[float, float]:
    """What 95 % of the draws lie in, as many left out below as above; all of fewer than 41."""
    out = math.floor((1 - NULL_SHARE) / 2 * (len(draws) - 1))
    return sorted(draws)[out], sorted(draws)[len(draws) - 1 - out]
