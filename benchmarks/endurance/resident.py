"""Is a server's memory flat? Resident bytes over time, after a warm-up."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.endurance.tally import Tally

WARM_UP, FIRST, LAST = 0.25, 0.4, 0.85  # shares of the time: warm after, first level until, last level from
GROWTH = 0.05
MIB = 2**20
Samples = Sequence[tuple[float, int]]  # seconds, bytes


def flat(samples: Samples) -> Tally:
    """A row: growth of the median from the first level to the last, and the slope between by least squares."""
    begun, end = samples[0][0], samples[-1][0]

    def between(low: float, high: float) -> list[tuple[float, int]]:
        return [one for one in samples if low <= (one[0] - begun) / ((end - begun) or 1.0) <= high]

    first, last, warm = between(WARM_UP, FIRST), between(LAST, 1.0), between(WARM_UP, 1.0)
    row = Tally("resident memory of the server looked at", len(samples))
    if min(len(first), len(last)) < 2:
        row.violations.append(f"too few samples to tell: {len(samples)}")
        return row
    levels = [statistics.median(size for _, size in part) for part in (first, last)]
    growth = levels[1] / levels[0] - 1
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope * 3600 / MIB
    row.worst = f"{levels[0] / MIB:.0f} to {levels[1] / MIB:.0f} MiB, {growth:+.1%}; {slope:+.0f} MiB an hour"
    if growth > GROWTH:
        row.violations.append(f"it grew by {growth:.1%} after the warm-up, {GROWTH:.0%} are allowed: {row.worst}")
    return row
