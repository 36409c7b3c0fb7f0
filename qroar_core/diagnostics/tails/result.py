"""Tail inflation and the distributions behind it, as the file keeps them."""

from __future__ import annotations

from qroar_core.result import LayerHeadBand, Result


class TailTable(Result):
    """Tail inflation of one tensor on one side of RoPE; intervals by bootstrap over windows."""

    ratio: LayerHeadBand
    low: LayerHeadBand
    high: LayerHeadBand
    long: LayerHeadBand  # the quantile itself at long context
    short: LayerHeadBand
    native: LayerHeadBand | None  # long under this PI over short under the checkpoint's own RoPE


class Survival(Result):
    """How |x| is distributed, one tensor on one side of RoPE: the same tokens at long and at short context.

    Element i of a curve is the least |x| that at most `share[i]` of the entries exceed; None where fewer than
    1 / share[i] were seen. The tail is exact, the body within `body_bound` of its value.
    """

    share: list[float]
    long: list[LayerHeadBand]  # [layer][kv_head][band][share]
    short: list[LayerHeadBand]
    body_bound: float
