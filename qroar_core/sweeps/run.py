"""A sweep from its cells to its table and report: in this process, or by workers of Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from qroar_core.errors import BadOutput
from qroar_core.progress import OnStep, no_progress
from qroar_core.sweeps.address import cells_root
from qroar_core.sweeps.one_process import Spent, rows_of
from qroar_core.sweeps.ray_options import RayOptions
from qroar_core.sweeps.report import report_html
from qroar_core.sweeps.result import SweepRow
from qroar_core.sweeps.shared_work import SharedWork
from qroar_core.sweeps.sweep_file import Sweep
from qroar_core.sweeps.table import frame_of, write_table
from qroar_core.transforms.file import write_atomically

ASKED, REPORT, COUNTS = "asked.yaml", "report.html", "shared.json"


def run(
    sweep: Sweep,
    out: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    cells: Path | None = None,
    ray: RayOptions | None = None,
    on_step: OnStep = no_progress,
) -> pd.DataFrame:
    """Measure every cell that is not finished, and write table and report into `out`.

    Args:
        cells: folder of the cells; None: `cells_root()`.
        ray: where workers of Ray do it; None: this process does.
    Returns:
        The table, see `SweepRow`.
    Raises:
        BadOutput: `out` is something else, or cannot be written. Cancelled: raised by `on_step`; the same call goes on.
        BadSpec: Ray is not installed, or does not answer.
    """
    root = cells or cells_root()
    require_sweep_folder(out)
    write_atomically(out / ASKED, sweep.text)

    def on_rows(so_far: list[SweepRow]) -> None:
        write_table(out, frame_of(so_far))

    if ray is not None:
        from qroar_core.sweeps.on_ray import rows_on_ray

        rows, counts = rows_on_ray(sweep, root, ray, device, dtype, on_step, on_rows)
    else:
        with SharedWork(device, dtype) as shared:
            rows = rows_of(sweep.cells, Spent(sweep.budget), root, shared, on_step, on_rows)
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
