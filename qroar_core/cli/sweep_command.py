"""The command `sweep`: many setups from one file, each a run folder, in one table."""

from __future__ import annotations

from collections.abc import Hashable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.options import OUT, SWEEP
from qroar_core.cli.root import app
from qroar_core.cli.takes import takes
from qroar_core.errors import BadSpec
from qroar_core.large_imports import large_imports
from qroar_core.models.writable import require_writable_folder
from qroar_core.number_of import number_of
from qroar_core.sweeps.cells_folder import cells_folder
from qroar_core.sweeps.ray_options import imported_ray, ray_options

if TYPE_CHECKING:  # a command that reads no model starts without pandas
    import pandas as pd

SETTINGS = ("model", "rope", "factor", "length", "quantizer", "remedy", "text", "seed")  # columns, those that differ
ALWAYS = ("rope", "factor", "quantizer", "remedy")
MOST_ROWS = 100  # of the table that is printed


@app.command()
@takes(SWEEP, OUT)
def sweep(options: dict) -> None:
    """Measure many setups from one YAML file, sharing what they have in common. A killed sweep goes on.

    Cells that fail stop no others; with any of them it ends with exit code 2, once the table is written. This process
    measures all cells, unless --workers or --address ask for workers of Ray.
    """
    if not options.get("out"):
        raise BadSpec("where to?", where="sweep", do="add --out DIR")
    out = Path(options["out"]).expanduser()
    cells = cells_folder("--cells", options.get("cells"))
    ray = ray_options(options.get("workers"), options.get("address"), options.get("cpus"))
    if ray is not None:
        imported_ray()
    require_writable_folder(out)
    with large_imports(freeze=True):
        import_module("qroar_core.models.load")
    from qroar_core.sweeps import run as sweeps
    from qroar_core.sweeps.result import FAILED
    from qroar_core.sweeps.sweep_file import read_sweep
    from qroar_core.sweeps.table import CSV

    asked = read_sweep(options["file"])
    kept = {"device": options["device"], "dtype": options["dtype"], "cells": cells, "ray": ray}
    with tables.progress() as on_step:
        frame = sweeps.run(asked, out, on_step=on_step, **kept)
    show(frame)
    tables.line(f"written to {out}")
    failed = int((frame["status"] == FAILED).sum())
    if failed:
        do = f"see the column why of {out / CSV}, mend or exclude them, and give the command again"
        raise BadSpec(f"{failed} of {number_of(len(frame), 'cell')} failed", where=options["file"], do=do)


def _kl(row: dict[Hashable, Any]) -> str:
    """KL with its interval, where they are known."""
    if row["kl"] != row["kl"]:
        return ""
    ends = f" [{row['kl_low']:.4f}, {row['kl_high']:.4f}]" if row["kl_high"] == row["kl_high"] else ""
    return f"{row['kl']:.4f}{ends}"


def show(frame: pd.DataFrame) -> None:
    """A line a cell, how many there are of each status, and what keeps cells from being measured."""
    from qroar_core.sweeps.result import DONE

    names = [name for name in SETTINGS if name in ALWAYS or frame[name].nunique(dropna=False) > 1]
    rows = [
        [
            *(str(row[name]) for name in names),
            tables._with(row["loss"], row["loss_low"], row["loss_high"]) if row["status"] == DONE else "",
            _kl(row),
            f"{row['bytes_per_token']:,.0f}" if row["status"] == DONE else "",
            row["status"],
        ]
        for row in frame.head(MOST_ROWS).to_dict("records")
    ]
    header = [*names, "loss, nats", "KL, nats", "bytes a token", "status"]
    tables._table("Against the unquantized model under the same interpolation, on held-out text", header, rows)
    if len(frame) > MOST_ROWS:
        tables.line(f"The first {MOST_ROWS} of {len(frame):,} cells; the table has all")
    for status, count in frame["status"].value_counts().items():
        tables.line(f"{count} {status}")
    for why in frame.loc[frame["why"] != "", "why"].unique():
        tables.line(f"failed: {why}")
