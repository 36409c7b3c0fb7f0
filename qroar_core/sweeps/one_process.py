"""Cells in one process: what is finished is read, the rest is computed group by group."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from qroar_core.errors import BadOutput, Cancelled
from qroar_core.progress import OnStep, Step
from qroar_core.sweeps.cell import Cell, in_groups
from qroar_core.sweeps.claims import POLL, Held, Watch
from qroar_core.sweeps.result import FAILED, NOT_RUN, SweepRow
from qroar_core.sweeps.run_cell import run_cell
from qroar_core.sweeps.shared_work import SharedWork
from qroar_core.sweeps.sweep_file import Budget

EVERY = 30.0  # seconds between tables while cells are under way
OnRows = Callable[[list[SweepRow]], None]


@dataclass(slots=True)
class Spent:
    """What was computed, against a budget."""

    budget: Budget
    began: float = field(default_factory=time.monotonic)
    cells: int = 0

    @property
    def left(self) -> bool:
        """May another cell begin?"""
        minutes, cells = self.budget.minutes, self.budget.cells
        in_time = minutes is None or time.monotonic() - self.began < 60 * minutes
        return in_time and (cells is None or self.cells < cells)


def no_rows(rows: list[SweepRow]) -> None:
    """The silent `on_rows`."""


def rows_of(
    cells: Sequence[Cell], spent: Spent, root: Path, shared: SharedWork, on_step: OnStep, on_rows: OnRows = no_rows
) -> list[SweepRow]:
    """A row a cell, in their order; `on_rows` is called with all of them now and then, and when it is stopped.

    Raises:
        Cancelled: raised by `on_step`.
    """
    made: dict[int, SweepRow] = {}
    place = {id(cell): at for at, cell in enumerate(cells)}
    written = time.monotonic()

    def so_far() -> list[SweepRow]:
        return [made.get(at) or SweepRow.of(cell, status=NOT_RUN) for at, cell in enumerate(cells)]

    left = [cell for group in in_groups(list(cells)) for cell in group]
    watch = Watch()
    try:
        while left:
            held: list[Cell] = []  # by other processes: asked again once all else is done
            for cell in left:
                told = _told(on_step, cell, len(made), len(cells))
                told(Step("sweep", 0, 1, "look for what is finished"))  # thousands may be, and it can be stopped there
                row = run_cell(cell, shared, root, told, compute=False)
                if row is None and spent.left:
                    try:
                        row = run_cell(cell, shared, root, told)
                        spent.cells += 1
                    except Held as other:
                        row = _given_up(cell, other, watch)
                        if row is None:
                            held.append(cell)
                            told(Step("sweep", 0, 1, f"waiting for {other.holder.words}"))
                if row is not None:
                    made[place[id(cell)]] = row
                if time.monotonic() - written > EVERY:
                    on_rows(so_far())
                    written = time.monotonic()
            if len(held) == len(left):
                time.sleep(POLL)
            left = held
    except Cancelled:
        with suppress(BadOutput):  # what is finished can be looked at until it goes on
            on_rows(so_far())
        raise
    return so_far()


def _given_up(cell: Cell, other: Held, watch: Watch) -> SweepRow | None:
    """The row of a cell whose holder shows no sign of life any more; None where it is still worked on."""
    try:
        watch.look(other)
    except BadOutput as problem:
        return SweepRow.of(cell, status=FAILED, why=str(problem))
    return None


def _told(on_step: OnStep, cell: Cell, done: int, total: int) -> OnStep:
    """Steps of a cell as steps of the sweep."""

    def say(step: Step) -> None:
        on_step(Step("sweep", done, total, f"{cell.words}: {step.what}"))

    return say
