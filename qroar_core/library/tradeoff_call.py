"""`tradeoff`: loss against memory, from a sweep or a folder of runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from qroar_core.checks import at_least, of_kind, path_of, whole
from qroar_core.errors import BadOutput
from qroar_core.library.arguments import check_on_step
from qroar_core.library.refusal_words import in_parameters
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs.tradeoff import MAX_LOSS, Loss
from qroar_core.sweeps.address import cells_root
from qroar_core.sweeps.table import CSV
from qroar_core.tradeoffs.measured import Measured
from qroar_core.tradeoffs.point import require_loss
from qroar_core.tradeoffs.read_runs import read_runs
from qroar_core.tradeoffs.read_sweep import read_table, table_in, typed
from qroar_core.tradeoffs.result import Tradeoff


@in_parameters
def tradeoff(
    source: str | Path | pd.DataFrame,
    *,
    max_loss: float = MAX_LOSS,
    length: int | None = None,
    batch: int = 1,
    loss: Loss = "nll",
    cells: str | Path | None = None,
    on_step: OnStep = no_progress,
) -> Tradeoff:
    """Loss against K/V bytes per token: the Pareto front, and the cheapest format that loses less than `max_loss`.

    Each format is there with and without each remedy that was measured, with its interval. Nothing is computed on a
    model: this reads what `sweep` and other runs measured.

    Args:
        source: a folder that `sweep` wrote, the table that it returned, or a folder of run folders.
        max_loss: what the chosen format loses less than, with the upper end of its interval; nats a token, or a share
            of the hidden numbers.
        length: context in tokens that the memory is counted for; None: the one that was measured.
        batch: texts that are in the cache at once.
        loss: `nll`, NLL above that of the unquantized model; `kl` to it; `needles`, the share of hidden numbers that
            are not found, of runs with a retrieval test.
        cells: folder of a sweep's cells, whose windows pair the differences; None: QROAR_CELLS, or one in the user's
            data folder.
        on_step: called with a `qroar_core.progress.Step` as the work goes on; it may raise `Cancelled` to stop it.
    Returns:
        Of every model, interpolation, length, text and seed: points, front, choice, sentences, table and figure.
    Raises:
        BadSpec: a number or a loss that cannot be. BadOutput: `source` is neither a sweep nor a folder of runs, or
            cannot be read. Cancelled: raised by `on_step`.
    """
    check_on_step(on_step)
    of_kind("source", source, (str, Path, pd.DataFrame), "a folder or a table", 'give "sweep"')
    at_least("max_loss", max_loss, 0)
    if length is not None:
        whole("length", length, 1)
    whole("batch", batch, 1)
    on_step(Step("tradeoff", 0, 1, "read what was measured"))
    found = measured(source, require_loss(loss), None if cells is None else path_of("cells", cells, "name a folder"))
    return Tradeoff.of(found, max_loss, length, batch)


def measured(source: str | Path | pd.DataFrame, loss: Loss, cells: Path | None = None) -> Measured:
    """The points of a sweep's folder or table, or of a folder of runs.

    Raises:
        BadSpec: a loss that this has not. BadOutput: neither, or it cannot be read.
    """
    root = cells or cells_root()
    if isinstance(source, pd.DataFrame):
        return read_table(typed(source, "the table"), root, loss, "a table")
    folder = path_of("source", source, "name a folder")
    if not folder.is_dir():
        raise BadOutput("no such folder", where=str(folder), do="give the folder that `sweep --out` wrote")
    if (folder / CSV).exists():
        return read_table(table_in(folder), root, loss, str(folder))
    return read_runs(folder, loss)
