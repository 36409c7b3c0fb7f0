"""`sweep`: many setups in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from qroar_core.checks import of_kind, path_of
from qroar_core.library.arguments import check_on_step
from qroar_core.library.refusal_words import in_parameters
from qroar_core.progress import OnStep, no_progress
from qroar_core.sweeps import run as sweeps
from qroar_core.sweeps.cells_folder import cells_folder
from qroar_core.sweeps.ray_options import ray_options
from qroar_core.sweeps.sweep_file import read_sweep, sweep_of


@in_parameters
def sweep(
    file: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    cells: str | Path | None = None,
    workers: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    on_step: OnStep = no_progress,
) -> pd.DataFrame:
    """Measure models x interpolations x lengths x quantizers x remedies x texts x seeds, each cell a run folder.

    What is finished is read, also from other sweeps and machines; what cells share is computed once. A call that was
    stopped goes on when it is made again. A cell that fails has its line in `why`, and no other stops for it.

    Args:
        file: a YAML file, or what one says as a dict: `{"models": ["demo"], "ropes": [{"method": "yarn", "factor": 4}],
            "quantizers": [{"k": "int4"}], "remedies": ["none", "scales"]}`.
        out: folder of table.csv, table.parquet and report.html; may hold a sweep already.
        device, dtype: of every model, as `load` takes them.
        cells: folder of the cells; None: QROAR_CELLS, or one in the user's data folder.
        workers: so many at a time measure the cells, by Ray; None: this process does, or all that `address` has.
        address: a Ray cluster, `auto`, `HOST:PORT` or `ray://HOST:10001`; None: with `workers`, a Ray of this machine.
        cpus: cores and threads of each worker; None: this machine's divided among `workers`, 4 with `address`.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        One row a cell: its settings, `nll`, `nll_reference`, `loss` and `kl` with their 95 % intervals (nats a
        token), `bytes_per_token` of K and V, `seconds`, `status` (`done`, `failed` or `not run`), `why`, `run`.
    Raises:
        BadSpec: a key or value of the file that is not known; Ray is not installed or does not answer.
        BadOutput: `out` is no sweep, or cannot be written.
        Cancelled: raised by `on_step`.
    """
    check_on_step(on_step)
    of_kind("file", file, (str, Path, Mapping), "a path or a dict", 'give "sweep.yaml"')
    folder = path_of("out", out, "name a folder")
    if cells is not None:
        path_of("cells", cells, "name a folder")
    kept = cells_folder("cells", cells)
    ray = ray_options(workers, address, cpus)
    if isinstance(file, Mapping):
        asked = sweep_of(file, "sweep(file=...)", yaml.safe_dump(dict(file), sort_keys=False))
    else:
        asked = read_sweep(file)
    return sweeps.run(asked, folder, device=device, dtype=dtype, cells=kept, ray=ray, on_step=on_step)
