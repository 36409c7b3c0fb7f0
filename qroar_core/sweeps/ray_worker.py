"""What a worker of Ray does: one piece of a sweep's cells, with what they share kept for the next piece.

Everything here is called by Ray, in a process of its own on any node.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qroar_core.errors import BadOutput
from qroar_core.progress import Step
from qroar_core.sweeps.cell import Cell
from qroar_core.sweeps.one_process import Spent, rows_of
from qroar_core.sweeps.result import SweepRow
from qroar_core.sweeps.shared_work import SharedWork
from qroar_core.sweeps.sweep_file import Budget

SAID_EVERY = 0.5  # seconds between words to who waits

_kept: SharedWork | None = None  # of this process, between two pieces of a model


@dataclass(frozen=True, slots=True)
class Orders:
    """What is the same for every piece of a sweep.

    Args:
        root: folder of the cells, on every node. seen: a file in it that who asked has made.
        where: the folder that relative paths start from.
        until: second of the clock after which no cell begins; None: no such limit.
    """

    root: str
    seen: str
    where: str
    device: str
    dtype: str
    threads: int
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Cells for one worker.

    Args:
        name: the same after the loss of the worker that had it first, see `claims`.
        cells: `Cell.as_dict` of each.
        most: cells that may be computed; None: all.
        keep: there are more cells of its model, so the model stays in memory.
    """

    name: str
    cells: list[dict[str, Any]]
    most: int | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Worked:
    """Rows in the order of the piece, how many of them were computed, and what was shared meanwhile."""

    rows: list[SweepRow]
    computed: int
    counts: Mapping[str, Mapping[str, int]]


def work(piece: Piece, orders: Orders, heard: Any) -> Worked:
    """Measure the cells of a piece.

    Raises:
        BadOutput: this node sees another folder of cells, or none.
    """
    import torch

    root = Path(orders.root)
    if not (root / orders.seen).is_file():
        do = "give --cells a folder that all nodes share"
        raise BadOutput(f"is not the same folder on {os.uname().nodename}", where=str(root), do=do)
    with suppress(OSError):  # without it a relative path is not found, which a row says
        os.chdir(orders.where)
    torch.set_num_threads(orders.threads)
    minutes = None if orders.until is None else max(0.0, orders.until - time.time()) / 60
    spent = Spent(Budget(minutes, piece.most))
    shared = _shared(orders, piece.name)
    before, last = shared.counts(), 0.0

    def on_step(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last > SAID_EVERY:
            last = time.monotonic()
            heard.say.remote(piece.name, step.done, step.what)

    keep = False
    try:
        rows = rows_of([Cell(**one) for one in piece.cells], spent, root, shared, on_step)
        keep = piece.keep
    finally:
        if not keep:
            _let_go()
    return Worked(rows, spent.cells, _since(before, shared.counts()))


def _shared(orders: Orders, name: str) -> SharedWork:
    """What this process has kept, if it is of this sweep."""
    global _kept
    if _kept is None or (_kept.device, _kept.dtype) != (orders.device, orders.dtype):
        _let_go()
        _kept = SharedWork(orders.device, orders.dtype).__enter__()
    _kept.work = name
    return _kept


def _let_go() -> None:
    global _kept
    if _kept is not None:
        _kept.__exit__(None, None, None)
    _kept = None


def _since(before: Mapping[str, Mapping[str, int]], now: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {kind: {name: count - before[kind][name] for name, count in of.items()} for kind, of in now.items()}


def gpu_bytes() -> int:
    """Memory of the GPU that Ray gives to this process."""
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)
