"""Tied frequencies: groups of neighbouring RoPE pairs that turn as one, a change to any interpolation.

Pairs of equal frequency may be mixed by any matrix without a logit changing (docs/method.md section 4), so a tie buys
room for a transform at a small cost in full precision. A group turns at the geometric mean of its pairs' frequencies
under the interpolation, times a number; at 0 it stands still. `tied_frequencies.py` computes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from qroar_core.checks import briefly, of_kind
from qroar_core.errors import BadSpec

STILL = "still"  # how a turn of 0 may be written
EXAMPLE = "20-21,22-25,26-31:0"
COUNTED = (  # beside every gain that is measured under a tie alone
    "pairs are tied, so that gains count under the tie: what the tie itself costs is measured by an evaluation"
)
GROUP = re.compile(r"(\d{1,6})-(\d{1,6})(?::(.+))?")


@dataclass(frozen=True, slots=True)
class Tie:
    """RoPE pairs `first` to `last` at one frequency.

    Args:
        first, last: pairs, both included, counted from the fastest, 0.
        turn: the group's frequency as a multiple of the geometric mean of its pairs' own; 0: it stands still.
    Raises:
        BadSpec: no such group, or one pair alone that is to turn.
    """

    first: int
    last: int
    turn: float = 1.0

    def __post_init__(self) -> None:
        if any(isinstance(pair, bool) or not isinstance(pair, int) for pair in (self.first, self.last)):
            raise BadSpec(f"pairs of a tie are whole numbers, got {self.first!r} and {self.last!r}")
        if not 0 <= self.first <= self.last:
            raise BadSpec(f"pairs {self.first}-{self.last} are no group", do="write the lower number first")
        if isinstance(self.turn, bool) or not isinstance(self.turn, int | float) or not 0 <= self.turn < math.inf:
            raise BadSpec(f"the turn of pairs {self.first}-{self.last} must be 0 or more and finite, got {self.turn!r}")
        if self.first == self.last and self.turn:
            raise BadSpec(
                f"pair {self.first} alone has nothing to be tied to",
                do=f"name at least two pairs, or write {self.first}-{self.last}:0 to hold it still",
            )


def tie_of_block(block: Any) -> Tie:
    """The group that a file's block of plain values says.

    Raises:
        BadSpec: no such block, an entry that a group does not have, or numbers that it cannot take.
    """
    known = [one.name for one in fields(Tie)]
    if not isinstance(block, Mapping) or not {"first", "last"} <= set(block):
        raise BadSpec("a tie needs first and last", do='write for example {"first": 26, "last": 31, "turn": 0}')
    if unknown := [name for name in block if name not in known]:
        raise BadSpec(f"unknown entry {str(unknown[0])[:40]!r} of a tie", do=f"choose from {', '.join(known)}")
    return Tie(**block)


def groups_of_ties(ties: object) -> tuple[Tie, ...]:
    """A list of groups as a tuple; raises BadSpec where it is anything else."""
    if not isinstance(ties, tuple | list) or not all(isinstance(tie, Tie) for tie in ties):
        do = f'give qroar.ties("{EXAMPLE}"), with pairs of your model'
        raise BadSpec(f"tie must be tied pairs, got {briefly(ties)}", do=do)
    return tuple(ties)


def require_apart(ties: Sequence[Tie]) -> None:
    """Raises BadSpec where groups overlap or do not ascend."""
    for one, other in zip(ties, ties[1:], strict=False):
        if other.first <= one.last:
            raise BadSpec(
                f"tied groups {one.first}-{one.last} and {other.first}-{other.last} overlap or do not ascend",
                do=f"list every pair once, from fast to slow, as in {EXAMPLE}",
            )


def require_pairs(ties: Sequence[Tie], pairs: int) -> None:
    """Raises BadSpec where a group holds pairs that a head of so many `pairs` does not have."""
    past = next((tie for tie in ties if tie.last >= pairs), None)
    if past is not None:
        raise BadSpec(
            f"pairs {past.first}-{past.last} are tied, this model has {pairs} RoPE pairs",
            where="tied pairs",
            do=f"name pairs from 0 to {pairs - 1}",
        )


def parse_ties(text: str) -> tuple[Tie, ...]:
    """The groups of `20-21,22-25:0.9,26-31:0`, each `first-last[:turn]`; the inverse of `ties_text`.

    Args:
        text: groups of RoPE pairs, both ends included, separated by commas.
    Raises:
        BadSpec: what is not understood, in one line.
    """
    of_kind("qroar.ties", text, str, "given a text", f'write for example "{EXAMPLE}"')
    ties = []
    for part in (part.strip() for part in text.split(",") if text.strip()):
        found = GROUP.fullmatch(part)
        try:
            if found is None:
                raise ValueError
            turn = 1.0 if found[3] is None else 0.0 if found[3] == STILL else float(found[3])
        except ValueError:
            raise BadSpec(
                f"{part[:40]!r} is no group of tied pairs", do=f"write first-last[:turn], {EXAMPLE}"
            ) from None
        ties.append(Tie(int(found[1]), int(found[2]), turn))
    require_apart(ties)
    return tuple(ties)


def ties_text(ties: Sequence[Tie]) -> str:
    """`20-21,22-25:0.9,26-31:0`; empty without groups."""
    return ",".join(f"{tie.first}-{tie.last}{'' if tie.turn == 1 else f':{_number(tie.turn)}'}" for tie in ties)


def ties_words(ties: Sequence[Tie]) -> str:
    """`tied 20–21, 22–25 ×0.9, still 26–31`; empty without groups."""
    turning = [f"{_span(tie)}{'' if tie.turn == 1 else f' ×{_number(tie.turn)}'}" for tie in ties if tie.turn]
    still = [_span(tie) for tie in ties if not tie.turn]
    said = (f"{word} {', '.join(groups)}" for word, groups in (("tied", turning), (STILL, still)) if groups)
    return ", ".join(said)


def _span(tie: Tie) -> str:
    return str(tie.first) if tie.first == tie.last else f"{tie.first}–{tie.last}"


def _number(turn: float) -> str:
    """As short as it can be read back exactly."""
    return f"{turn:g}" if float(f"{turn:g}") == turn else repr(float(turn))


def wavelength_of(inv_freq: float) -> float:
    """Tokens per turn; infinite for a pair that stands still."""
    return 2 * math.pi / inv_freq if inv_freq else math.inf
