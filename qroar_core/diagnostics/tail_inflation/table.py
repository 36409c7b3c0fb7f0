"""From tails to the tables of the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qroar_core.diagnostics.sample import Sample
from qroar_core.diagnostics.tail_inflation.measure import BandTails, swapped_ratios, tail_inflation
from qroar_core.diagnostics.tail_inflation.result import Survival, TailNull, TailTable
from qroar_core.diagnostics.tensor_lists import listed, significant
from qroar_core.maths.null_range import null_range
from qroar_core.specs import DiagnosisSpec

# shares of entries at which the distributions are kept: three a decade, closer about the median
SHARES = (0.9, 0.75, 0.5, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4)
SWAPPED = "long and short side of each window swapped, {} ways; the largest of all cells each time"
RANDOM_SIDES_CONTROL = (
    "long and short windows assigned to the two sides at random, {} times; the largest of all cells each time"
)


def tail_table(
    long: Sequence[BandTails], short: Sequence[BandTails], native: Sequence[BandTails] | None, spec: DiagnosisSpec
) -> TailTable:
    """Tail inflation of one tensor on one side of RoPE, layer by layer.

    Args:
        long, short: the same tokens (unpaired: as many) at long and at short context under one interpolation.
        native: at short context under native RoPE, without any interpolation; None: not measured.
        spec: its tail probability, pairing and seed, and how many tokens of a window were compared.
    """
    eps, paired, both = spec.eps, spec.paired, list(zip(long, short, strict=True))
    found = [tail_inflation(a, b, eps, paired=paired, seed=spec.seed + i) for i, (a, b) in enumerate(both)]
    again = None
    if native is not None:
        own = zip(long, native, strict=True)
        again = listed(torch.stack([tail_inflation(a, b, eps, paired=paired, resamples=1).ratio for a, b in own]))
    table = {
        name: listed(torch.stack([getattr(t, name) for t in found]))
        for name in ("ratio", "low", "high", "long", "short")
    }
    drawn = torch.stack([swapped_ratios(a, b, eps, paired=paired, seed=spec.seed) for a, b in both], 1)
    error = "the interval is a 95 % bootstrap over windows"
    return TailTable(native=again, null=_null(drawn, paired), sample=_sample(long, spec, error, spec.seed), **table)


def _null(drawn: Tensor, paired: bool) -> TailNull:
    """Ranges of the draws, (draws, layers, n_kv_heads, bands)."""
    low, high = null_range(drawn)
    known = drawn.where(drawn.isfinite(), 0.0)  # a cell without values, or with nothing but zeros on one side
    map_low, map_high = null_range(known.amax(2))
    return TailNull(
        low=listed(low),
        high=listed(high),
        map_low=listed(map_low),
        map_high=listed(map_high),
        largest=known.flatten(1).amax(1).tolist(),
        control=(SWAPPED if paired else RANDOM_SIDES_CONTROL).format(len(drawn)),
    )


def survival_of(long: Sequence[BandTails], short: Sequence[BandTails], spec: DiagnosisSpec) -> Survival:
    """Distributions of |x| at long and at short context, layer by layer."""
    at_long, at_short = (torch.stack([t.survival(SHARES) for t in side]) for side in (long, short))
    return Survival(
        share=list(SHARES),
        long=listed(significant(at_long)),
        short=listed(significant(at_short)),
        body_bound=long[0].body.relative_bound,
        sample=_sample(long, spec),
    )


def _sample(tails: Sequence[BandTails], spec: DiagnosisSpec, error: str = "", seed: int | None = None) -> Sample:
    windows = tails[0].shape[0]
    return Sample(tokens=windows * spec.paired_tokens, windows=windows, error=error, seed=seed)
