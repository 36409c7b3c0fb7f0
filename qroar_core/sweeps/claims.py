"""Who computes what in a folder that processes and machines share: a claim is a file that one of them can make.

It names host, process and time. One of a process of this host that is dead is taken over; of another host's process
nothing is known but that it touches its claim while it works, so who waits gives up when it does not. A worker of Ray
also names the work it was given: when Ray gives that to another worker, the first one is gone, wherever it was. Its
claims are touched by a thread, whatever it computes, so one that is not touched for long is taken over.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from qroar_core.errors import BadOutput
from qroar_core.plain_file import reason
from qroar_core.progress import OnStep, Step

FOLDER = "claims"  # beside the cells
TOUCH = 20.0  # seconds between signs of life of who holds a claim
POLL = 0.5  # seconds between looks of who waits
SAME_PROCESS = 5.0  # seconds by which a clock that was set moves the time when a process began
QUIET = 900.0  # seconds without a sign of life after which nobody waits any longer


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a claim. `began`: of the process, so that another one of the same number is not taken for it."""

    host: str
    pid: int
    began: float  # seconds of the system's clock
    time: str
    work: str = ""  # what Ray gave it; empty outside Ray

    @property
    def words(self) -> str:
        """In a sentence."""
        return f"process {self.pid} on {self.host}, since {self.time}"

    @property
    def dead(self) -> bool:
        """Is it a process of this host that is no more? Of other hosts nobody knows."""
        if self.host != socket.gethostname() or os.name != "posix":
            return False
        began = _began(self.pid)
        return began is None or abs(began - self.began) > SAME_PROCESS

    def replaced_by(self, other: Holder) -> bool:
        """Was this holder's work given to another one? Ray does that once it is gone."""
        same = self.work == other.work or other.work.startswith(f"{self.work}.")  # all of it, or a part
        return bool(self.work) and same and (self.host, self.pid) != (other.host, other.pid)


class Held(Exception):
    """Another process computes this now."""

    def __init__(self, holder: Holder, file: Path) -> None:
        self.holder, self.file = holder, file
        super().__init__(holder.words)


class Claims:
    """Claims in one folder of cells.

    Args:
        work: what Ray gave to this process; it is the same after a loss of the process that had it first.
    """

    def __init__(self, root: Path, work: str = "") -> None:
        self.folder, self._work = root / FOLDER, work

    @contextmanager
    def held(self, name: str, on_step: OnStep) -> Iterator[OnStep]:
        """Nobody else computes `name` inside; yields `on_step` with signs of life beside it.

        Raises:
            Held: somebody does. BadOutput: the folder cannot be written.
        """
        file = self.folder / f"{name}.json"
        mine = replace(_me(), work=self._work)
        self._take(file, mine)
        touched = time.monotonic()

        def with_sign_of_life(step: Step) -> None:
            nonlocal touched
            if time.monotonic() - touched > TOUCH:
                touched = time.monotonic()
                with suppress(OSError):
                    os.utime(file)
            on_step(step)

        try:
            with _touched(file) if self._work else nullcontext():
                yield with_sign_of_life
        finally:
            if _read(file) == mine:
                file.unlink(missing_ok=True)

    @contextmanager
    def awaited(self, name: str, what: str, there: Callable[[], bool], on_step: OnStep) -> Iterator[OnStep | None]:
        """As `held`, but waits for who holds it: None once `there` says that the result is.

        Raises:
            BadOutput: who holds it has shown no sign of life for long. Cancelled: raised by `on_step`.
        """
        watch = Watch()
        while True:
            if there():
                yield None
                return
            try:
                with self.held(name, on_step) as said:
                    yield None if there() else said  # it may have been finished in between
                return
            except Held as held:
                on_step(Step("sweep", 0, 1, f"{what}: waiting for {held.holder.words}"))
                watch.look(held)
                time.sleep(POLL)

    def _take(self, file: Path, mine: Holder) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if _made(file, mine):
                return
            holder = _read(file)
            if holder is not None and (holder.dead or holder.replaced_by(mine)):
                with _alone_on_this_host(self.folder):  # else two would take it over, one of them from the other
                    if _read(file) == holder:
                        file.unlink(missing_ok=True)
                    if _made(file, mine):
                        return
                holder = _read(file)
        except OSError as error:
            do = "free some room, or give --cells another folder"
            raise BadOutput(f"cannot be written: {reason(error)}", where=str(file), do=do) from error
        raise Held(holder or Holder("a host", 0, 0.0, "now"), file)


class Watch:
    """What a process that waits has seen of the claims of others."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[float, float]] = {}  # claim -> when it was touched, and when that was first seen

    def look(self, held: Held) -> None:
        """Note a claim that is still held. One of a worker of Ray that is not touched for long is removed.

        Raises:
            BadOutput: another one has not been touched for long, by this process's own clock.
        """
        with suppress(OSError):
            touched, now = held.file.stat().st_mtime, time.monotonic()
            if self._seen.get(held.file, (None,))[0] != touched:
                self._seen[held.file] = touched, now
            elif now - self._seen[held.file][1] > QUIET and held.holder.work:
                if _read(held.file) == held.holder:
                    held.file.unlink()
            elif now - self._seen[held.file][1] > QUIET:
                said = f"{held.holder.words}, shows no sign of life for {QUIET / 60:.0f} minutes"
                raise BadOutput(said, where=str(held.file), do="remove this file if it is gone")


def _made(file: Path, mine: Holder) -> bool:
    """Make the claim; False where there is one. It is linked once it is whole, where the file system has links."""
    temporary, said = file.with_name(f".{file.name}-{mine.host}-{mine.pid}"), json.dumps(asdict(mine))
    temporary.write_text(said, encoding="utf-8")
    try:
        os.link(temporary, file)
    except FileExistsError:
        return False
    except OSError:  # no links here
        try:
            with file.open("x", encoding="utf-8") as made:
                made.write(said)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _read(file: Path) -> Holder | None:
    try:
        return Holder(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _touched(file: Path) -> Iterator[None]:
    """Signs of life from a thread, also while a stage reports nothing."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(TOUCH):
            with suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=touch, name="qroar-claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _me() -> Holder:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Holder(socket.gethostname(), os.getpid(), _began(os.getpid()) or 0.0, now)


def _began(pid: int) -> float | None:
    """When a process of this host began; None where there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


@contextmanager
def _alone_on_this_host(folder: Path) -> Iterator[None]:
    """One process of this host at a time; the system lets go of what a killed one held."""
    import fcntl

    with (folder / f".{socket.gethostname()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
