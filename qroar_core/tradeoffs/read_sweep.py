"""Points from a sweep's table, with the windows of its cells where their folders are on this disk."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from qroar_core.errors import BadOutput, BadSpec
from qroar_core.number_of import number_of
from qroar_core.plain_file import NotPlain, read_json, read_text, reason
from qroar_core.result import Result
from qroar_core.runs.folder import UNTUNED, answers_of
from qroar_core.specs.tradeoff import Loss
from qroar_core.statistics.intervals import ends_of_kl
from qroar_core.sweeps.remedy_words import WORDS
from qroar_core.sweeps.result import DONE, NOT_KEPT
from qroar_core.sweeps.table import CSV, KL_ENDS, LARGEST, NUMBERS, WHOLE
from qroar_core.tradeoffs.measured import Measured
from qroar_core.tradeoffs.point import Point, SetupKey

CELL = re.compile(r"\w[\w.-]{0,119}")  # name of a cell's folder: no path leads out of the root by it
REFERENCE = "reference/identity"
NEEDED = (
    *("model", "rope", "factor", "rope_options", "length", "quantizer", "remedy", "text", "seed", "nll"),
    *("nll_reference", "loss", "loss_low", "loss_high", "kl", "bytes_per_token", "kept", "status", "run"),
)


class Cell(NamedTuple):
    """What a cell's folder says beside its row: NLL of each window, without and with quantizers, and its KL.

    Cells that an older version measured kept the error of the mean KL alone, or nothing of it.
    """

    reference: tuple[float, ...]
    mine: tuple[float, ...]
    kl: tuple[float, ...]
    kl_se: float | None
    kept_layers: tuple[int, ...]


def table_in(folder: Path) -> pd.DataFrame:
    """The table of a sweep's folder.

    Raises:
        BadOutput: there is none, or it is none of a sweep.
    """
    path = folder / CSV
    do = "give the folder that `sweep --out` wrote"
    try:
        frame = pd.read_csv(io.StringIO(read_text(path, LARGEST)), dtype=str, keep_default_na=False)
    except (NotPlain, ValueError) as problem:
        raise BadOutput(f"cannot be read: {reason(problem)}", where=str(path), do=do) from problem
    except OSError as problem:
        raise BadOutput(f"cannot be read: {reason(problem)}", where=str(path), do=do) from problem
    return typed(frame, str(path))


def typed(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The columns that are asked for, numbers as numbers.

    Raises:
        BadOutput: a column is missing, or holds words for numbers.
    """
    do = "give the table of a sweep"
    missing = [name for name in NEEDED if name not in frame]
    if missing:
        raise BadOutput(f"has no column {missing[0]}", where=where, do=do)
    frame = frame.assign(**{name: math.nan for name in KL_ENDS if name not in frame})
    numbers = [name for name in (*WHOLE, *NUMBERS) if name in (*NEEDED, *KL_ENDS)]
    try:
        found = frame[[*NEEDED, *KL_ENDS]].assign(**{name: pd.to_numeric(frame[name]) for name in numbers})
    except (ValueError, TypeError) as problem:
        raise BadOutput(f"holds no number where one belongs: {reason(problem)}", where=where, do=do) from problem
    return found.astype(dict.fromkeys(numbers, "float64"))


def read_table(frame: pd.DataFrame, root: Path, loss: Loss, where: str) -> Measured:
    """Every finished cell of a table as a point.

    Args:
        root: folder of the cells. where: the table, in refusals and notes.
    Raises:
        BadSpec: needles, which no sweep asks for. BadOutput: a cell's file cannot be read.
    """
    if loss == "needles":
        do = "give a folder of runs that tested retrieval, or choose nll or kl"
        raise BadSpec("a sweep tests no retrieval", where="--loss needles", do=do)
    found = Measured(loss, where=where)
    done = frame[frame["status"] == DONE]
    if left := len(frame) - len(done):
        found.note(f"Left out, failed or not run: {left:,} of {number_of(len(frame), 'cell')}")
    alone = older = unmeasured = 0
    for row in done.itertuples(index=False):
        if loss == "kl" and math.isnan(row.kl):
            unmeasured += 1
            continue
        key = SetupKey(row.model, row.rope, row.factor, row.rope_options, int(row.length), row.text, int(row.seed))
        run = _folder(root, row.run)
        cell = None if run is None else _cell(run, row.remedy, int(row.length), row.nll == row.nll_reference)
        alone += cell is None
        point = _point(row, run, cell, loss)
        older += cell is not None and not point.units
        found.points.setdefault(key, []).append(point)
    if unmeasured:
        found.note(f"Left out, without a KL: {number_of(unmeasured, 'cell')}")
    if alone:
        found.note(
            f"The windows of {number_of(alone, 'cell')} are not below {root}: differences from these are judged by "
            "whether intervals overlap, which takes more to be significant than windows that are paired"
        )
    if older:
        found.note(
            f"An older version measured {number_of(older, 'cell')} and kept no KL of single windows: differences from "
            "these are judged by whether intervals overlap"
        )
    return found


def _point(row: Any, run: Path | None, cell: Cell | None, loss: Loss) -> Point:
    quantized = not (row.loss == row.loss_low == row.loss_high == 0)
    value, low, high = row.loss, row.loss_low, row.loss_high
    units = tuple(a - b for a, b in zip(cell.mine, cell.reference, strict=True)) if cell else ()
    if loss == "kl":
        value, low, high = row.kl, row.kl_low, row.kl_high
        units = cell.kl if cell else ()
        if not quantized:
            low = high = value
            units = tuple(0.0 for _ in cell.mine) if cell else ()
        elif math.isnan(high) and cell is not None:
            low, high = ends_of_kl(value, cell.kl_se, len(cell.mine))
    return Point(
        quantizer=row.quantizer,
        remedy=row.remedy,
        bytes_per_token=row.bytes_per_token,
        loss=value,
        low=finite(low),
        high=finite(high),
        units=units,
        sample=digest(cell.reference) if cell and units else "",
        served=row.kept != NOT_KEPT,
        run=run,
        kept_layers=cell.kept_layers if cell else (),
        quantized=quantized,
    )


def digest(values: tuple[Any, ...]) -> str:
    """Which windows these are: by what the unquantized model loses on each."""
    return sha256(json.dumps(values).encode()).hexdigest()[:16]


def finite(value: float | None) -> float | None:
    """The value; None where it is none, as the ends of an interval over one window are."""
    return None if value is None or not math.isfinite(value) else float(value)


def _folder(root: Path, name: str) -> Path | None:
    """A cell's folder; None where it is not on this disk. The name comes from a file, and is not trusted."""
    return root / name if CELL.fullmatch(name) and (root / name).is_dir() else None


def _cell(run: Path, remedy: str, length: int, unquantized: bool) -> Cell | None:
    """What is kept of a finished cell; None where its file is not there."""
    word = WORDS.get(remedy)
    if word is None:
        return None
    if not word.condition:
        return next((one for name in answers_of(run, "compare") for one in _compared(run / name, remedy)), None)
    path = run / ("evaluation.json" if word.kinds is not None else UNTUNED)
    if not path.is_file():
        return None
    said = _read(path)
    condition = REFERENCE if unquantized and f"{length}/{word.condition}" not in said["window_nll"] else word.condition
    try:
        reference, mine = (_floats(said["window_nll"][f"{length}/{name}"]) for name in (REFERENCE, condition))
        rows = {f"{row['model']}/{row['scales']}": row for row in said["rows"] if row["length"] == length}
        error = (rows[condition].get("close") or {}).get("kl_mean_se")
        kl = _floats(said.get("window_kl", {}).get(f"{length}/{condition}", ()))
    except (KeyError, TypeError, AttributeError) as problem:
        raise _broken(path) from problem
    if kl and len(kl) != len(mine):
        raise _broken(path)
    return Cell(reference, mine, kl, None if error is None else float(error), ())


def _compared(path: Path, remedy: str) -> Iterator[Cell]:
    """The remedy's row of a comparison, alone."""
    said = _read(path)
    try:
        for row in said["rows"]:
            if row["method"] == remedy and not row.get("band_scales"):
                kept = tuple(int(layer) for layer in row.get("kept_layers", ()))
                kl = _floats(row.get("window_kl") or ())
                if kl and len(kl) != len(row["window_nll"]):
                    raise _broken(path)
                yield Cell(_floats(said["reference_window_nll"]), _floats(row["window_nll"]), kl, None, kept)
    except (KeyError, TypeError, AttributeError) as problem:
        raise _broken(path) from problem


def _read(path: Path) -> Any:
    """The file as JSON: a page of 2,000 cells has no time for all that a result checks.

    Raises:
        BadOutput: it cannot be read.
    """
    try:
        return read_json(path, Result.MOST)
    except (NotPlain, ValueError, OSError) as problem:
        raise BadOutput(f"cannot be read: {reason(problem)}", where=str(path), do="run the sweep again") from problem


def _floats(values: Any) -> tuple[float, ...]:
    found = tuple(float(one) for one in values)
    if not all(map(math.isfinite, found)):
        raise TypeError("not a number")
    return found


def _broken(path: Path) -> BadOutput:
    return BadOutput("is no result of a cell", where=str(path), do="remove its folder and run the sweep again")
