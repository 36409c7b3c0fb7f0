"""What a sweep saves: 24 cells on the demo in one sweep, against the same cells each by itself, in one process.

A cell by itself is a sweep of one cell into an empty folder: it loads the model, reads its reference, its captures and
its diagnosis anew. The start of Python, which 24 commands would pay as well, is not counted.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qroar_core.sweeps import run as sweeps
from qroar_core.sweeps.cell import AXES
from qroar_core.sweeps.result import DONE
from qroar_core.sweeps.sweep_file import sweep_of

ASKED: dict[str, Any] = {
    "models": ["demo"],
    "ropes": [{"method": "yarn", "factor": 4}],
    "quantizers": [{"k": "int4"}, {"k": "int3"}, {"kv": "int4"}],
    "remedies": ["none", "scales", "scales+angles", "rotation"],
    "lengths": [512],
    "texts": ["messages", "technical"],
    "windows": 4,
}
WANTED = 0.6  # of the time of the cells one by one


def main(asked: dict[str, Any] = ASKED) -> None:
    """One table: seconds and processor seconds of both, and their ratios."""
    cells = sweep_of(asked, "benchmark").cells
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        swept(sweep_alone(asked, 0), root / "warm")  # what a process pays once
        together = timed(lambda: swept(asked, root / "together"))
        shared = json.loads((root / "together" / "out" / sweeps.COUNTS).read_text())
        alone = timed(lambda: [swept(sweep_alone(asked, at), root / f"alone-{at}") for at in range(len(cells))])
    print("| cells | one sweep, s | one by one, s | ratio | ratio in CPU time | wanted |")
    print("|---|---|---|---|---|---|")
    seconds, cpu = (one / other for one, other in zip(together, alone, strict=True))
    print(f"| {len(cells)} | {together[0]:.1f} | {alone[0]:.1f} | {seconds:.2f} | {cpu:.2f} | {WANTED} |")
    said = ", ".join(f"{name} {count['made']} made, {count['taken']} taken again" for name, count in shared.items())
    print(f"\nShared in the sweep: {said}.", flush=True)


def sweep_alone(asked: dict[str, Any], at: int) -> dict[str, Any]:
    """The file of one cell of a sweep."""
    cell = sweep_of(asked, "benchmark").cells[at].as_dict()
    return {key: [cell[name]] for key, name in AXES.items()} | {"windows": cell["windows"]}


def swept(asked: dict[str, Any], folder: Path) -> None:
    """Sweep into an empty folder; every cell must come out."""
    frame = sweeps.run(sweep_of(asked, "benchmark"), folder / "out", cells=folder / "cells", device="cpu")
    assert (frame["status"] == DONE).all(), frame["why"].unique()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and processor seconds of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu
