"""What `--tie auto` chose, why, and what the choice costs; apart from the computation, which is choose_ties.py."""

from __future__ import annotations

from typing import Annotated

from qroar_core.interpolations.tie import Tie, ties_text
from qroar_core.number_of import number_of
from qroar_core.result import Result, Unbounded
from qroar_core.result_shapes import ANY, axes


class TriedTie(Result):
    """Groups that were tried on captured text; errors are shares of what rounding alone makes without a tie."""

    tie: str  # as `--tie` takes it
    cost: float  # squared change of the attention output by the tie, in full precision
    left: float  # by tie and rounding together, from where a search begins


class TiedGroup(Result):
    """One chosen group beside what it costs and buys."""

    first: int
    last: int
    turn: float  # its frequency over the geometric mean of its pairs'; 0: it stands still
    wavelength: Unbounded  # tokens per turn; infinite where it stands still
    absmax_share: float  # of all tokens and KV heads, those whose largest channel of K belongs to the group
    cost: float  # of this group alone, see TriedTie
    left_without: float  # TriedTie.left of the other groups alone


class TieCost(Result):
    """NLL under the tie minus NLL without it, nothing quantized, nats per token on development windows."""

    length: int  # tokens per window
    windows: int
    nats: float
    low: Unbounded
    high: Unbounded
    allowed: float  # nats


class PolishReport(Result):
    """What a polish takes back of a tie's cost, nothing quantized.

    error_left: of the squared change of the attention output by the tie, on the text that was searched; mean over
    layers. costs, polished: of the tie without and with it on development text, length by length; empty where the
    search was cancelled before they were measured.
    """

    error_left: float
    costs: Annotated[list[TieCost], axes(ANY)] = []
    polished: Annotated[list[TieCost], axes(ANY)] = []

    @property
    def words(self) -> str:
        """`the tie costs +0.0280 nats [+0.0250, +0.0310] at 16,384 tokens, polished +0.0090 [...]; ...`."""
        each = [
            f"at {one.length:,} tokens the tie costs {_nats(one)}, polished {_nats(other)}"
            for one, other in zip(self.costs, self.polished, strict=True)
        ]
        left = f"{self.error_left:.0%} of the tie's change of the attention output left on calibration text"
        counted = f" ({number_of(self.costs[0].windows, 'development window')}, nothing quantized)" if each else ""
        return "; ".join([left, *each]) + counted


def _nats(cost: TieCost) -> str:
    return f"{cost.nats:+.4f} nats [{cost.low:+.4f}, {cost.high:+.4f}]"


class TieChoice(Result):
    """Groups of pairs to tie for a quantizer, the slowest last; none where no tie pays."""

    groups: Annotated[list[TiedGroup], axes(ANY)]
    left_untied: float  # TriedTie.left without a tie
    tried: Annotated[list[TriedTie], axes(ANY)]
    costs: Annotated[list[TieCost], axes(ANY)]  # of the groups that were kept; empty without any
    dropped: Annotated[list[str], axes(ANY)]  # groups that cost more than is allowed, in the order of leaving
    text: str  # windows that were captured
    seconds: float
    forward_seconds: float  # of one bare forward pass over the captured windows

    @property
    def tie(self) -> tuple[Tie, ...]:
        """The groups as an interpolation takes them."""
        return tuple(Tie(one.first, one.last, one.turn) for one in self.groups)

    @property
    def written(self) -> str:
        """The groups as `--tie` takes them."""
        return ties_text(self.tie)

    @property
    def left(self) -> float:
        """TriedTie.left of the choice."""
        return next(one.left for one in reversed(self.tried) if one.tie == self.written)

    @property
    def sentence(self) -> str:
        """What was chosen and what it costs."""
        if not self.groups:
            why = f"; {', '.join(self.dropped)} cost more than is allowed" if self.dropped else ""
            return f"no tie pays here{why}"
        costs = ", ".join(f"{one.nats:+.4f} nats at {one.length:,} tokens" for one in self.costs)
        return f"tied {ties_text(self.tie)}: it costs {costs}, before anything is quantized"
