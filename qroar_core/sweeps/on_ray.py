"""Cells by workers of Ray: pieces are handed out as Ray tasks, their rows put together.

Where and when a task runs, and that it runs again after the loss of a worker or a node, is Ray's. What was finished by
then is in the folders of the cells, and only read.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from qroar_core.errors import BadOutput, BadSpec, QRoarError
from qroar_core.plain_file import reason
from qroar_core.progress import OnStep, Step
from qroar_core.sweeps.one_process import EVERY, OnRows
from qroar_core.sweeps.pieces import in_pieces
from qroar_core.sweeps.ray_connection import connected
from qroar_core.sweeps.ray_heard import Heard
from qroar_core.sweeps.ray_need import Need, bytes_needed, need_of
from qroar_core.sweeps.ray_options import RayOptions
from qroar_core.sweeps.ray_worker import Orders, Piece, Worked, gpu_bytes, work
from qroar_core.sweeps.result import FAILED, NOT_RUN, SweepRow
from qroar_core.sweeps.sweep_file import Sweep

RETRIES = 3  # of a piece by Ray, after its worker or its node was lost; then its cells go on one by one
LOOK = 0.5  # seconds between looks at the workers
GRACE = 10.0  # seconds that workers may take to end a cancelled piece
AHEAD = 2  # pieces handed to Ray for each that can run, so that no worker waits
MOST_AHEAD = 1000  # pieces that wait in Ray
Counts = dict[str, dict[str, int]]


def rows_on_ray(
    sweep: Sweep, root: Path, options: RayOptions, device: str, dtype: str, on_step: OnStep, on_rows: OnRows
) -> tuple[list[SweepRow], Counts]:
    """A row a cell, in the order of the file, and what was shared in all workers together.

    Raises:
        BadSpec: Ray is not installed or does not answer. BadOutput: the cells' folder cannot be written, or a node sees
            another one. Cancelled: raised by `on_step`, once the workers have stopped.
    """
    with connected(options) as (ray, cpus), _seen(root) as seen:
        minutes = sweep.budget.minutes
        until = None if minutes is None else time.time() + 60 * minutes
        orders = Orders(str(root.resolve()), seen, str(Path.cwd()), device, dtype, cpus, until)
        driver = _Driver(ray, sweep, options, orders, on_step)
        return driver.rows(on_rows), driver.counts


@contextmanager
def _seen(root: Path) -> Iterator[str]:
    """A file by which workers know the folder; its name."""
    file = root / f".seen-{uuid.uuid4().hex}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise BadOutput(f"cannot be written: {reason(error)}", where=str(root), do="give --cells another") from error
    try:
        yield file.name
    finally:
        with suppress(OSError):
            file.unlink()


@dataclass(frozen=True, slots=True, eq=False)
class _Handed:
    """A piece that is with Ray. `cells`: their numbers. `reserved`: of the budget."""

    piece: Piece
    cells: list[int]
    reserved: int


class _Driver:
    """The process that asked: it hands out pieces, and takes their rows."""

    def __init__(self, ray: Any, sweep: Sweep, options: RayOptions, orders: Orders, on_step: OnStep) -> None:
        self.ray, self.sweep, self.options, self.orders, self.on_step = ray, sweep, options, orders, on_step
        self.counts: Counts = {}
        self._made: dict[int, SweepRow] = {}
        self._handed: dict[Any, _Handed] = {}  # by Ray's reference
        self._needs: dict[str, Any] = {}  # by model: a Need, or a reference to what it is made of
        self._budget = sweep.budget.cells  # what is neither spent nor reserved; None: no limit
        self._work, self._needed = ray.remote(work), ray.remote(bytes_needed)
        self._gpu = self._gpu_bytes()
        pieces = in_pieces(sweep.cells, options.workers or self._room(orders.threads))
        self._left = deque((uuid.uuid4().hex, piece) for piece in pieces)
        self._heard = self._listener()

    def rows(self, on_rows: OnRows) -> list[SweepRow]:
        """Every cell's, once no piece is left."""
        written = time.monotonic()
        try:
            while self._left or self._handed:
                self._hand_out()
                self._take()
                self._say()
                if time.monotonic() - written > EVERY:
                    on_rows(self._so_far())
                    written = time.monotonic()
        except BaseException:
            self._cancel()
            raise
        return self._so_far()

    def _so_far(self) -> list[SweepRow]:
        cells = enumerate(self.sweep.cells)
        return [self._made.get(at) or SweepRow.of(cell, status=NOT_RUN) for at, cell in cells]

    def _room(self, cpus: int) -> int:
        """How many workers the cluster has cores (and GPUs) for."""
        has = self.ray.cluster_resources()
        workers = int(has.get("CPU", 0)) // cpus
        return max(1, min(workers, int(has.get("GPU", 0))) if self._gpu else workers)

    def _nodes(self) -> list[dict[str, float]]:
        """Resources of each node.

        Raises:
            BadSpec: there is none any more.
        """
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not alive:
            do = "give the same command again, it goes on; see the logs in /tmp/ray if it ends again"
            raise BadSpec("Ray has no node any more", where="sweep", do=do)
        return alive

    def _gpu_bytes(self) -> int:
        """Of the first GPU that Ray gives; 0 where the work is done on the CPU."""
        device = self.orders.device
        if device.startswith("cuda:"):
            raise BadSpec("Ray gives each worker its GPU", where="--device", do="choose auto, cuda or cpu")
        if device in ("cpu", "mps") or not self.ray.cluster_resources().get("GPU", 0):
            return 0
        return int(self.ray.get(self.ray.remote(gpu_bytes).options(num_gpus=1).remote()))

    def _listener(self) -> Any:
        """An actor on this process's node, so that the loss of another one does not end it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=True)
        return self.ray.remote(Heard).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1).remote()

    def _hand_out(self) -> None:
        ahead = AHEAD * self._room(self.orders.threads)
        if self.options.workers is not None and self.options.address is not None:
            ahead = self.options.workers
        for _, cells in islice(self._left, ahead):
            self._need(cells)  # asked before its turn comes
        while self._left and len(self._handed) < min(ahead, MOST_AHEAD):
            name, cells = self._left[0]
            need = self._need(cells)
            if need is None:
                return
            if not any(need.fits(has) for has in self._nodes()):
                self._left.popleft()
                why = f"no node of Ray has room for a worker: it needs {need.words}"
                self._made |= {at: SweepRow.of(self.sweep.cells[at], status=FAILED, why=why) for at in cells}
                continue
            most = len(cells) if self._budget is None else min(len(cells), self._budget)
            if not most and any(one.reserved for one in self._handed.values()):
                return  # what they do not use is given back
            self._left.popleft()
            if self._budget is not None:
                self._budget -= most
            self._hand(name, cells, most, need)

    def _hand(self, name: str, cells: list[int], most: int, need: Need) -> None:
        of = self.sweep.cells
        keep = any(of[others[0]].model == of[cells[0]].model for _, others in self._left)
        piece = Piece(name, [of[at].as_dict() for at in cells], None if self._budget is None else most, keep)
        orders = replace(self.orders, device="balanced") if need.gpus > 1 else self.orders
        task = self._work.options(**need.options, max_retries=RETRIES, name="qroar sweep")
        self._handed[task.remote(piece, orders, self._heard)] = _Handed(piece, cells, most)

    def _need(self, cells: list[int]) -> Need | None:
        """Of the model of a piece; None while a worker looks at its config."""
        from ray.exceptions import RayError

        model = self.sweep.cells[cells[0]].model
        if model not in self._needs:
            mine = [cell.as_dict() for cell in self.sweep.cells if cell.model == model]
            asked = self._needed.options(num_cpus=1, max_retries=RETRIES)
            self._needs[model] = asked.remote(mine, self.orders.dtype, bool(self._gpu), self.orders.where)
        found = self._needs[model]
        if not isinstance(found, Need):
            if not self.ray.wait([found], timeout=0)[0]:
                return None
            try:
                computed, loaded = self._got(found)
            except RayError:  # a worker that only read a config was lost again and again
                computed, loaded = 0, 0
            found = self._needs[model] = need_of(computed, loaded, self.orders.threads, self._gpu)
        return found

    def _got(self, reference: Any) -> Any:
        """What a task returned.

        Raises:
            QRoarError: what it refused, or what keeps workers from doing anything. RayError: it was lost.
        """
        from ray.exceptions import RayTaskError

        try:
            return self.ray.get(reference)
        except RayTaskError as fault:
            if isinstance(fault.cause, QRoarError):
                raise fault.cause from None
            said = " ".join(str(fault.cause or fault).split())[-200:]
            do = "check that every node has this version of the package"
            raise BadSpec(f"a worker cannot do its work: {said}", where="sweep", do=do) from fault

    def _take(self) -> None:
        """The rows of a piece that is ready, within `LOOK`."""
        from ray.exceptions import RayError

        asked = [one for one in self._needs.values() if not isinstance(one, Need)]
        ready, _ = self.ray.wait([*self._handed, *asked], timeout=LOOK) if self._handed or asked else ([], [])
        for reference in ready:
            if reference not in self._handed:
                continue
            handed = self._handed.pop(reference)
            try:
                worked = self._got(reference)
            except RayError as loss:
                self._lost(handed, loss)
                continue
            self._add(handed, worked)

    def _add(self, handed: _Handed, worked: Worked) -> None:
        self._made |= dict(zip(handed.cells, worked.rows))
        if self._budget is not None:
            self._budget += handed.reserved - worked.computed
        for kind, of in worked.counts.items():
            mine = self.counts.setdefault(kind, dict.fromkeys(of, 0))
            for name, count in of.items():
                mine[name] += count

    def _lost(self, handed: _Handed, loss: Exception) -> None:
        """Its worker was lost again and again: each cell goes on alone, so that the one that does it fails alone."""
        if self._budget is not None:
            self._budget += handed.reserved
        if len(handed.cells) > 1:
            self._left.extend((f"{handed.piece.name}.{at}", [at]) for at in handed.cells)
            return
        (at,) = handed.cells
        said = (str(loss).strip().splitlines() or [type(loss).__name__])[0][:200]
        why = f"its worker was lost {RETRIES + 1} times ({type(loss).__name__}: {said})"
        self._made[at] = SweepRow.of(self.sweep.cells[at], status=FAILED, why=why)

    def _say(self) -> None:
        """What the workers do, as a step of the sweep."""
        from ray.exceptions import GetTimeoutError, RayError

        said: dict[str, tuple[float, str]] = {}
        with suppress(RayError, GetTimeoutError):
            said = self.ray.get(self._heard.all.remote(), timeout=LOOK)
        with_ray = {one.piece.name for one in self._handed.values()}
        mine = {name: one for name, one in said.items() if name in with_ray}
        last = list(mine.values())[-1][1] if mine else "waiting for workers"
        done = len(self._made) + sum(one for one, _ in mine.values())
        workers = f"{len(mine)} at work; " if len(mine) > 1 else ""
        self.on_step(Step("sweep", done, len(self.sweep.cells), f"{workers}{last}"))

    def _cancel(self) -> None:
        """End what is with Ray; what workers have finished is on disk."""
        asked = [one for one in self._needs.values() if not isinstance(one, Need)]
        for force in (False, True):
            left = [*self._handed, *asked]
            for reference in left:
                with suppress(Exception):  # Ray itself may be what has failed
                    self.ray.cancel(reference, force=force)
            with suppress(Exception):
                left = self.ray.wait(left, num_returns=len(left), timeout=GRACE)[1]
            if not left:
                return
