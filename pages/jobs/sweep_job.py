"""Queue measuring the cells of a sweep into its table, in this process."""

from __future__ import annotations

from pathlib import Path

from pages.state.choice import Choice
from pages.state.session import asked_here, manager
from qroar_core.job import JobKey
from qroar_core.models.devices import choose_device
from qroar_core.models.writable import require_writable_folder
from qroar_core.number_of import number_of
from qroar_core.progress import OnStep
from qroar_core.sweeps import run as sweeps
from qroar_core.sweeps.address import cells_root
from qroar_core.sweeps.sweep_file import Sweep


def key(sweep: Sweep, folder: Path, picked: Choice) -> JobKey[Path]:
    """The file, where its table goes, and on what its models are loaded."""
    return JobKey(("sweep", sweep.text, str(folder), picked.device, picked.dtype))


def start(sweep: Sweep, folder: Path, picked: Choice) -> JobKey[Path]:
    """Queue it; returns its key. The same file can be started again: it goes on where it was left.

    Raises:
        BadOutput: `folder` is something else, or cannot be written. BadSpec: a device that this machine has not, or
            a QROAR_CELLS that is no folder.
    """
    device = str(choose_device(picked.device))
    cells_root()
    require_writable_folder(folder)
    sweeps.require_sweep_folder(folder)
    mine = key(sweep, folder, picked)
    asked_here().add(mine)  # first: behind the start of a job nothing ends a run
    manager().submit(
        mine,
        _run,
        sweep,
        folder,
        picked,
        label=f"Sweep of {number_of(len(sweep.cells), 'cell')}",
        device=device,
        again=True,
        about=f"into {folder}",
    )
    return mine


def _run(sweep: Sweep, folder: Path, picked: Choice, on_step: OnStep) -> Path:
    sweeps.run(sweep, folder, device=picked.device, dtype=picked.dtype, on_step=on_step)
    return folder
