"""What a sweep will take: memory by our own estimate, seconds and bytes on disk by cells that are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from qroar_core.errors import BadOutput, QRoarError
from qroar_core.models.devices import choose_device
from qroar_core.models.needed_memory import read
from qroar_core.runs.manifest import Manifest
from qroar_core.sweeps.cell import Cell
from qroar_core.sweeps.ray_need import WINDOWS, asked_of
from qroar_core.sweeps.remedy_words import WORDS
from qroar_core.sweeps.run_cell import COMPARED, MANIFEST, SETTLED, UNTUNED_STAGE

MOST = 300  # finished cells that are read, the newest
Alike = tuple[str, str]  # model, and the last stage of a cell


@dataclass(frozen=True, slots=True)
class FinishedCell:
    """What a cell took. `seconds`: for each token of its windows, beyond what it shared with cells before it."""

    alike: Alike
    seconds: float
    disk: int  # bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole sweep, whatever of it is finished already.

    Args:
        seconds, disk: of the cells that finished ones of the same model and kind are known for; bytes.
        cells: how many those are. known: how many finished ones they are judged by.
    """

    seconds: float = 0.0
    disk: float = 0.0
    cells: int = 0
    known: int = 0


def finished_cells(root: Path) -> list[FinishedCell]:
    """What cells below `root` took; those that cannot be read are left out."""
    try:
        folders = sorted(filter(Path.is_dir, root.iterdir()), key=lambda one: one.stat().st_mtime, reverse=True)
    except OSError:
        return []
    found: list[FinishedCell] = []
    for folder in folders[:MOST]:
        with suppress(BadOutput, OSError, KeyError, TypeError, IndexError, ZeroDivisionError):
            found += _finished(folder)
    return found


def _finished(folder: Path) -> list[FinishedCell]:
    said = Manifest.from_file(folder / MANIFEST, BadOutput)
    stage = next((name for name in (SETTLED, COMPARED, UNTUNED_STAGE) if name in said.stages), None)
    if stage is None:
        return []
    asked = said.specs["evaluation"]
    tokens = int(asked["lengths"][-1]) * int(asked["windows"])
    disk = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return [FinishedCell((said.source, stage), sum(said.stages.values()) / tokens, disk)]


def estimate_of(cells: Sequence[Cell], finished: Sequence[FinishedCell]) -> Estimate:
    """By the mean of finished cells of the same model and kind; seconds in proportion to the tokens of the windows."""
    by: dict[Alike, list[FinishedCell]] = {}
    for one in finished:
        by.setdefault(one.alike, []).append(one)
    mean = {alike: (fmean(one.seconds for one in mine), fmean(one.disk for one in mine)) for alike, mine in by.items()}
    seconds = disk = 0.0
    counted, used = 0, set[Alike]()
    for cell in cells:
        alike = (cell.model, _stage(cell))
        if alike not in mean or cell.length is None:
            continue
        tokens = cell.length * (cell.windows or WINDOWS)
        seconds, disk = seconds + tokens * mean[alike][0], disk + mean[alike][1]
        counted += 1
        used.add(alike)
    return Estimate(seconds, disk, counted, sum(len(by[alike]) for alike in used))


def _stage(cell: Cell) -> str:
    word = WORDS[cell.remedy]
    if word.kinds is not None:
        return SETTLED
    return UNTUNED_STAGE if word.condition else COMPARED


def memory_of(cells: Sequence[Cell], device: str, dtype: str) -> Mapping[str, int]:
    """Bytes that the cell which needs most takes, by model. Models that are not on this disk are left out."""
    found: dict[str, int] = {}
    for model in dict.fromkeys(cell.model for cell in cells):
        if model == "demo" or Path(model).expanduser().exists():
            with suppress(QRoarError):  # what is wrong with it, its cells say
                needed = read(model, choose_device(device), dtype)
                mine = {asked_of(cell, needed.native) for cell in cells if cell.model == model}
                found[model] = max(needed.of(*asked) for asked in mine)
    return found
