"""What was done how often, and what of it broke a promise: a row of a table, and a line a violation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qroar_core.errors import QRoarError
from qroar_core.number_of import number_of

MOST_LINES = 20  # violations printed in full; a fault that shows every time says the same each time


class BrokenPromise(QRoarError):
    """A part of this benchmark ended, and something it watches did not hold."""


@dataclass(slots=True)
class Tally:
    """One row.

    Args:
        what: was done.
        worst: the largest deviation that was seen, in words.
        violations: each with what to look at.
    """

    what: str
    count: int = 0
    worst: str = ""
    violations: list[str] = field(default_factory=list)


def report(part: str, rows: Sequence[Tally]) -> None:
    """Print the table and every violation.

    Raises:
        BrokenPromise: there was one, so that the command exits non-zero; or a row was never done.
    """
    print("| what was done | times | violations | worst |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.count} | {len(row.violations)} | {row.worst or 'none'} |")
    broken = [f"{row.what}: {line}" for row in rows for line in row.violations]
    for line in broken[:MOST_LINES]:
        print(f"\nViolation. {line}")
    if len(broken) > MOST_LINES:
        print(f"\nand {len(broken) - MOST_LINES} more")
    print(flush=True)
    if broken:
        raise BrokenPromise(number_of(len(broken), "violation"), where=part, do="see the lines above")
    if idle := [row.what for row in rows if not row.count]:
        raise BrokenPromise(f"never done: {', '.join(idle)}", where=part, do="give it more minutes or rounds")
