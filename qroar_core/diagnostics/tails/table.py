"""From tails to the tables of the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qroar_core.diagnostics.listed import listed, significant
from qroar_core.diagnostics.tails.measure import BandTails, tail_inflation
from qroar_core.diagnostics.tails.result import Survival, TailTable

# shares of entries at which the distributions are kept: three a decade, closer about the median
SHARES = (0.9, 0.75, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4)


def tail_table(
    long: Sequence[BandTails], short: Sequence[BandTails], native: Sequence[BandTails] | None, eps: float, paired: bool
) -> TailTable:
    """Tail inflation of one tensor on one side of RoPE, layer by layer.

    Args:
        long, short: the same tokens at long and at short context under one interpolation.
        native: at short context under the checkpoint's own RoPE; None: that is the one in use.
        eps: tail probability. paired: both sides hold the same windows.
    """
    found = [tail_inflation(a, b, eps, paired=paired, seed=i) for i, (a, b) in enumerate(zip(long, short, strict=True))]
    again = None
    if native is not None:
        both = zip(long, native, strict=True)
        again = listed(torch.stack([tail_inflation(a, b, eps, paired=paired, resamples=1).ratio for a, b in both]))
    table = {
        name: listed(torch.stack([getattr(t, name) for t in found]))
        for name in ("ratio", "low", "high", "long", "short")
    }
    return TailTable(native=again, **table)


def survival_of(long: Sequence[BandTails], short: Sequence[BandTails]) -> Survival:
    """Distributions of |x| at long and at short context, layer by layer."""
    at_long, at_short = (torch.stack([t.survival(SHARES) for t in side]) for side in (long, short))
    return Survival(
        share=list(SHARES),
        long=listed(significant(at_long)),
        short=listed(significant(at_short)),
        body_bound=long[0].body.relative_bound,
    )
