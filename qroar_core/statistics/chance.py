"""Do measured numbers stand out of the draws of their null? One rule for every title that says yes or no to it.

Where nothing is there, what was measured is one more draw: of n + 1 numbers each is as likely to be the largest. So at
most 5 % of titles say yes then, however many draws there are, and none says yes or no with too few of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qroar_core.number_of import number_of

LEVEL = 0.05  # of titles that say yes where nothing is there, at most
ENOUGH = 19  # draws: the largest of 19 and the measured one is the measured one by chance in 1 case of 20

Numbers = Sequence[float | None]


def stands_out(measured: Numbers, draws: Sequence[Numbers]) -> bool | None:
    """Is the number that is furthest out further than chance makes any of them? None: too few draws to tell.

    Every number is taken in standard deviations from its mean, both over the draws and what was measured, so that a
    number with a narrow null counts as much as one with a wide null. The largest of them is compared with the largest
    of every draw: p = (1 + draws that reach as far) / (draws + 1).

    Args:
        measured: larger means more. draws: of the null, the same numbers each; one that is None somewhere is left out.
    Sources: Westfall and Young, Resampling-Based Multiple Testing (1993); Phipson and Smyth, SAGMB 9 (2010) for p.
    """
    found = _furthest(measured, draws)
    if len(draws) < ENOUGH or found is None:
        return None
    return sum(one >= found[0] for one in found) <= LEVEL * (len(draws) + 1)


def furthest_out(measured: Numbers, draws: Sequence[Numbers]) -> int:
    """Which of the measured numbers is furthest out, as `stands_out` takes them; the first where none is known."""
    own = [column[0] if column else -math.inf for column in _standardised(measured, draws)]
    return max(range(len(own)), key=own.__getitem__)


def too_few(draws: int) -> str:
    """What a title says where `stands_out` does not know."""
    return f"{number_of(draws, 'draw')} of the null cannot decide"


def _furthest(measured: Numbers, draws: Sequence[Numbers]) -> list[float] | None:
    """The largest number of what was measured, then of every draw; None where no number is known."""
    known = [column for column in _standardised(measured, draws) if column]
    return [max(row) for row in zip(*known, strict=True)] if known else None


def _standardised(measured: Numbers, draws: Sequence[Numbers]) -> list[list[float]]:
    """Number by number: measured and drawn, mean 0 and standard deviation 1; empty where one is unknown."""
    out: list[list[float]] = []
    for column in zip(measured, *draws, strict=True):
        values = [v for v in column if v is not None]
        if len(values) < len(column):
            out.append([])
            continue
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
        out.append([(v - mean) / spread if spread else 0.0 for v in values])
    return out
