"""A sweep from its cells to its table: what is finished is read, the rest is computed group by group."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from qroar_core.errors import BadOutput
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.sweeps.address import cells_root
from qroar_core.sweeps.cell import Cell, in_groups
from qroar_core.sweeps.claims import POLL, Held, Watch
from qroar_core.sweeps.report import report_html
from qroar_core.sweeps.result import FAILED, NOT_RUN, SweepRow
from qroar_core.sweeps.run_cell import run_cell
from qroar_core.sweeps.shared_work import SharedWork
from qroar_core.sweeps.sweep_file import Budget, Sweep
from qroar_core.sweeps.table import frame_of, write_table
from qroar_core.transforms.file import write_atomically

ASKED, REPORT, COUNTS = "asked.yaml", "report.html", "shared.json"
EVERY = 30.0  # seconds between tables while cells are under way


@dataclass(slots=True)
class _Spent:
    """What this call has computed, against its budget."""

    budget: Budget
    began: float
    cells: int = 0

    @property
    def left(self) -> bool:
        minutes, cells = self.budget.minutes, self.budget.cells
        in_time = minutes is None or time.monotonic() - self.began < 60 * minutes
        return in_time and (cells is None or self.cells < cells)


def run(
    sweep: Sweep,
    out: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    cells: Path | None = None,
    on_step: OnStep = no_progress,
) -> pd.DataFrame:
    """Measure every cell that is not finished, and write table and report into `out`.

    Args:
        cells: folder of the cells; None: `cells_root()`.
    Returns:
        The table, see `SweepRow`.
    Raises:
        BadOutput: `out` is something else, or cannot be written. Cancelled: raised by `on_step`; the same call goes on.
    """
    root = cells or cells_root()
    require_sweep_folder(out)
    write_atomically(out / ASKED, sweep.text)
    with SharedWork(device, dtype) as shared:
        rows = _rows(sweep, root, shared, on_step, lambda so_far: write_table(out, so_far))
        counts = shared.counts()
    frame = frame_of(rows)
    write_table(out, frame)
    write_atomically(out / COUNTS, json.dumps(counts, indent=1) + "\n")
    write_atomically(out / REPORT, report_html(frame, sweep, counts))
    return frame


def require_sweep_folder(out: Path) -> None:
    """Raises BadOutput where `out` is there and holds no sweep."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / ASKED).is_file())):
        raise BadOutput("exists and is not a sweep", where=str(out), do="choose a new folder")


def _rows(
    sweep: Sweep, root: Path, shared: SharedWork, on_step: OnStep, write: Callable[[pd.DataFrame], None]
) -> list[SweepRow]:
    """A row a cell, in the order of the file."""
    made: dict[int, SweepRow] = {}
    place = {id(cell): at for at, cell in enumerate(sweep.cells)}
    spent = _Spent(sweep.budget, time.monotonic())
    written = time.monotonic()

    def so_far() -> list[SweepRow]:
        return [made.get(at) or SweepRow.of(cell, status=NOT_RUN) for at, cell in enumerate(sweep.cells)]

    left = [cell for group in in_groups(list(sweep.cells)) for cell in group]
    watch = Watch()
    while left:
        held: list[Cell] = []  # by other processes: asked again once all else is done
        for cell in left:
            told = _told(on_step, cell, len(made), len(sweep.cells))
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
                write(frame_of(so_far()))
                written = time.monotonic()
        if len(held) == len(left):
            time.sleep(POLL)
        left = held
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
