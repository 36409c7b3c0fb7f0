"""Whether scales are kept: the gain that decides it, and why an evaluation's gain is another number."""

from __future__ import annotations

from qroar_core.result import Result
from qroar_core.statistics.intervals import shows_above_zero

LEAST_SHOWN_NATS = 1e-4  # nats, the least that is shown; from its half on a number is shown above zero


def scored(targets: int, length: int) -> str:
    """Which tokens of a window are predicted and counted."""
    return "every token but the first scored" if targets == length - 1 else f"the last {targets} tokens of each scored"


def targets_of(targets: int, length: int) -> str:
    """Which targets of a window are scored, in the words of a sample."""
    if targets == length - 1:
        return f"all {targets:,} targets of each window scored"
    return f"the last {targets:,} targets of each window scored"


def contradicts(significant: bool, low: float) -> bool:
    """Can this not be said of an interval from `low` up?

    Until 2026-11-29 it was significant above zero, since then where it is above zero as it is shown: of an end
    between the two either may have been said.
    """
    return low <= 0 if significant else low > LEAST_SHOWN_NATS


def on_held_out(windows: int, length: int, targets: int, stride: int | None) -> str:
    """What an evaluation measures on, in the words of a decision."""
    if stride is None:
        return f"{windows} held-out windows of {length} tokens, {scored(targets, length)}"
    return f"{windows} held-out texts, {targets} tokens of each scored by windows of {length} that slide by {stride}"


class Decision(Result):
    """The gain of scales on development text: NLL without them minus that with them, nats per token.

    Scales are kept where the interval lies above zero. It is taken apart from calibration text, on which they were
    searched, and from held-out text, on which an evaluation reports; and apart from windows of development text that
    the search's own objective has read.
    """

    gain: float
    low: float
    high: float
    windows: int
    length: int  # tokens per window
    targets: int  # tokens scored in each window
    text: str  # documents, windows and length in words

    @property
    def significant(self) -> bool:
        """True where the scales win, in the digits that are shown."""
        return shows_above_zero(self.low)

    @property
    def where(self) -> str:
        """Documents, windows, length and scored tokens."""
        return f"{self.text}, {scored(self.targets, self.length)}"

    @property
    def measured(self) -> str:
        """`+0.0166 nats [+0.0101, +0.0231] on 8 development windows of 1024 tokens, ... scored`."""
        return f"{nats(self.gain, self.low, self.high)} on {self.where}"


def nats(mean: float, low: float, high: float) -> str:
    """A difference with its interval."""
    return f"{mean:+.4f} nats [{low:+.4f}, {high:+.4f}]"
