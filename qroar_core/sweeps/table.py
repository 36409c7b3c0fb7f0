"""The table of a sweep: one row a cell, as CSV and as parquet."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from qroar_core.errors import BadOutput
from qroar_core.plain_file import MIB, NotPlain, read_text, reason
from qroar_core.sweeps.result import COLUMNS, SweepRow
from qroar_core.transforms.file import temporary_prefix, write_atomically

CSV, PARQUET = "table.csv", "table.parquet"
LARGEST = 256 * MIB  # bytes of a table
WHOLE = ("length", "windows", "seed")
KL_ENDS = ("kl_low", "kl_high")  # tables of before 2026-12 lack them
NUMBERS = (
    *("factor", "nll", "nll_reference", "loss", "loss_low", "loss_high", "kl"),
    *(*KL_ENDS, "bytes_per_token", "seconds"),
)


def frame_of(rows: Sequence[SweepRow]) -> pd.DataFrame:
    """A column a field of `SweepRow`; what was not measured is missing, and columns have one type however many are."""
    frame = pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS))
    return frame.astype({**dict.fromkeys(WHOLE, "Int64"), **dict.fromkeys(NUMBERS, "float64")})


def read_status(path: Path) -> pd.DataFrame:
    """The columns `status` and `why` of a table, as text.

    Raises:
        BadOutput: it cannot be read, or is no table of a sweep.
    """
    do = "start the sweep again, which writes it anew"
    try:
        frame = pd.read_csv(io.StringIO(read_text(path, LARGEST)), dtype=str, keep_default_na=False)
        return frame[["status", "why"]]
    except (NotPlain, ValueError, OSError) as problem:
        raise BadOutput(f"cannot be read: {reason(problem)}", where=str(path), do=do) from problem
    except KeyError as problem:
        raise BadOutput("is no table of a sweep", where=str(path), do=do) from problem


def write_table(folder: Path, frame: pd.DataFrame) -> None:
    """Write both files, each whole or not at all.

    Raises:
        BadOutput: the disk is full or the folder cannot be written.
    """
    write_atomically(folder / CSV, frame.to_csv(index=False, lineterminator="\n"))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=temporary_prefix(PARQUET))
    os.close(handle)
    try:
        frame.to_parquet(temporary, index=False, engine="pyarrow")
        os.chmod(temporary, 0o644)
        os.replace(temporary, folder / PARQUET)
    except OSError as error:
        do = "free some room or choose another folder"
        raise BadOutput(f"cannot be written: {reason(error)}", where=str(folder / PARQUET), do=do) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
