"""One optuna search shared by several processes, on one machine or on many with a common file system.

The storage is Optuna's journal: one file, each operation a line appended under a lock file, made for NFS too, where
SQLite's locks are unreliable (optuna.readthedocs.io: "(File-based) Journal Storage", `JournalFileBackend`). Trial n is
candidate n of `ScaleProposals`, so who evaluates it decides nothing, and every process reads the same history out of
the file, in the order of the numbers. A process that died leaves its trial RUNNING: another evaluates that candidate
again and finishes the trial in its place. Where two do so, the first to finish counts.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.errors import BadOutput
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.scale_search.optuna_candidates import Evaluate, ScaleProposals, TrialRunner, TriedCandidate

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import JournalStorage
    from optuna.trial import FrozenTrial

PAUSE = 0.2  # seconds between looks while others work
PATIENCE = 60.0  # seconds after which a candidate that nobody finishes is evaluated again, at least
SLOWER = 3.0  # ... or this many times what the slowest finished candidate took
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, AssertionError)  # what Optuna raises on a foreign file


@dataclass(frozen=True, slots=True)
class _Claim:
    number: int
    trial_id: int


@dataclass(slots=True)
class SharedStudy:
    """A process's part in a shared search.

    `setting` holds everything that decides a number, by name: a storage of any other setting is refused.
    """

    path: Path
    setting: dict[str, Any]
    on_step: OnStep = no_progress
    me: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    _seen: dict[tuple[int, str], float] = field(default_factory=dict)  # claim -> when this process first saw it

    def phase(self, name: str) -> TrialRunner:
        """`tries` of one phase, as a search in one process has it; what that one was told, the storage knows."""
        return lambda proposals, evaluate, told: self.tries(name, proposals, evaluate)

    def tries(self, phase: str, proposals: ScaleProposals, evaluate: Evaluate) -> Iterator[TriedCandidate]:
        """Every candidate in the order of its number, evaluated here or elsewhere.

        Args:
            phase: which part of the search this is; each has a study of its own in the storage.
        Raises:
            BadOutput: the storage is of another setting, damaged, or cannot be written.
            Cancelled: raised by `on_step` while others are waited for; what is finished stays in the storage.
        """
        with self._stored():
            storage = self._open()
            study = self._study(storage, phase)
        self._seen.clear()
        held: _Claim | None = None  # claimed, but proposed only once an earlier generation is finished
        given = 0
        while True:
            with self._stored():
                trials = study.get_trials(deepcopy=False)[: proposals.count]
                told = [_tried(trial) for trial in _finished_first(trials)]
            yield from told[given:]
            given = len(told)
            if given == proposals.count:
                return
            proposable = [trial for trial in trials if proposals.needs(trial.number) <= given]
            with self._stored():
                todo = self._abandoned(storage, proposable, held)
                next_one = len(trials)
                if not (todo or held) and next_one < proposals.count and proposals.needs(next_one) <= given:
                    held = self._claim(study, proposals.count)
            if todo is None and held is not None and proposals.needs(held.number) <= given:
                todo, held = held, None
            if todo is None:
                self.on_step(Step("search", given, proposals.count, "wait for the other workers"))
                time.sleep(PAUSE)
                continue
            point = proposals.point(todo.number, [tried.value for tried in told])
            value, errors = evaluate(point)
            with self._stored():
                _finish(storage, study, todo, TriedCandidate(todo.number, point, value, errors))

    def _open(self) -> JournalStorage:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = str(self.path.absolute())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileOpenLock(path)
        backend = JournalFileBackend(path, lock)
        lock.acquire()
        try:
            _mend(self.path)
        finally:
            lock.release()
        return optuna.storages.JournalStorage(backend)

    def _study(self, storage: JournalStorage, phase: str) -> Study:
        """This phase's study, made by the first who asks; raises BadOutput where the storage is another search's."""
        import optuna

        self._require_mine(storage)  # before anything is written into it
        name = f"{phase} {_digest(self.setting)}"
        study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
        study.set_user_attr("setting", {part: _digest(value) for part, value in self.setting.items()})
        self._require_mine(storage)  # another search may have begun at the same time; the earlier one has the file
        return study

    def _require_mine(self, storage: JournalStorage) -> None:
        studies = storage.get_all_studies()
        if not studies or studies[0].study_name.rsplit(" ", 1)[-1] == _digest(self.setting):
            return
        noted = studies[0].user_attrs.get("setting", {})
        apart = [part for part, value in self.setting.items() if noted and noted.get(part) != _digest(value)]
        raise BadOutput(
            f"holds a search with another {apart[0]}" if apart else "holds another search",
            where=str(self.path),
            do="choose a new file or the same options",
        )

    def _claim(self, study: Study, count: int) -> _Claim | None:
        """The next candidate nobody has, or None."""
        from optuna.trial import TrialState

        trial = study.ask()  # its number is one higher than the last of all processes
        if trial.number >= count:  # another process took the last one in the meantime
            study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("worker", self.me)
        return _Claim(trial.number, trial._trial_id)

    def _abandoned(self, storage: JournalStorage, trials: Sequence[FrozenTrial], held: _Claim | None) -> _Claim | None:
        """A candidate whose process died, or that takes longer than any should; claimed for this process."""
        from optuna.exceptions import UpdateFinishedTrialError

        now = time.monotonic()
        took = [t.duration.total_seconds() for t in trials if t.state.is_finished() and t.duration is not None]
        patience = max(PATIENCE, SLOWER * max(took, default=0.0))
        for trial in trials:
            worker = str(trial.user_attrs.get("worker", ""))
            if trial.state.is_finished() or (held is not None and trial.number == held.number):
                continue
            since = self._seen.setdefault((trial.number, worker), now)
            if worker == self.me or _died(worker) or now - since > patience:
                with suppress(UpdateFinishedTrialError):  # it was not dead after all
                    storage.set_trial_user_attr(trial._trial_id, "worker", self.me)
                    return _Claim(trial.number, trial._trial_id)
        return None

    @contextmanager
    def _stored(self) -> Iterator[None]:
        """What goes wrong with the file, in one line."""
        try:
            yield
        except OSError as error:
            raise BadOutput(
                f"cannot be used ({error.strerror or error})", where=str(self.path), do="choose another file"
            ) from error
        except DAMAGED as error:
            raise BadOutput(
                "not the storage of a search, or damaged", where=str(self.path), do="choose a new file"
            ) from error


def _finished_first(trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
    """The finished ones up to the first that is not."""
    for trial in trials:
        if not trial.state.is_finished():
            return
        yield trial


def _tried(trial: FrozenTrial) -> TriedCandidate:
    return TriedCandidate(trial.number, trial.user_attrs["point"], float(trial.values[0]), trial.user_attrs["errors"])


def _finish(storage: JournalStorage, study: Study, claim: _Claim, tried: TriedCandidate) -> None:
    from optuna.exceptions import UpdateFinishedTrialError

    with suppress(UpdateFinishedTrialError):  # another process finished the same candidate first, with the same result
        for name, content in (("point", tried.point), ("errors", tried.errors)):
            storage.set_trial_user_attr(claim.trial_id, name, content)
        value = math.inf if math.isnan(tried.value) else tried.value  # Optuna takes NaN for a failure
        study.tell(claim.number, value, skip_if_finished=True)


def _died(worker: str) -> bool:
    """True where the process was one of this machine and is no more."""
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False


def _mend(path: Path) -> None:
    """Cut off a last line that a kill left half written; the next line would be appended to it.

    Raises:
        ValueError, KeyError, TypeError: the file is no journal, and stays as it is.
    """
    with path.open("r+b") as file:
        whole = file.read()
        if whole:
            json.loads(whole[: whole.index(b"\n")])["op_code"]
        if not whole.endswith(b"\n"):
            file.truncate(whole.rfind(b"\n") + 1)


def _digest(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()[:12]
