"""`kill -9` of the command line at random moments; the same command then goes on to what was never killed.

Half of the kills come by the clock, half while a file is written (`victim`). One whole run and one export that nothing
kills come first: they say how long there is to kill, and what has to come out.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.endurance.tally import Tally
from benchmarks.endurance.whole_files import FINISHED, broken_files, finished, leftovers
from qroar_core.number_of import number_of

ROOT = Path(__file__).parents[2]
SMALL = ("--rope", "yarn", "--factor", "4", "--k", "int4", "--length", "128", "--windows", "4", "--bands", "4")
SEARCH = ("--method", "optuna", "--trials", "16", "--storage", "study")
COMMANDS = {  # each in a folder of its own, below which it writes
    "run": ("run", "demo", *SMALL, *SEARCH, "--out", "run"),
    "export": ("export", "demo", "--rope", "yarn", "--factor", "4", "--format", "hf", "--out", "exported"),
    "gguf": ("export", "demo", "--rope", "yarn", "--factor", "4", "--format", "gguf-q8_0", "--out", "exported"),
}
STAGES = {"diagnose": "diagnosis", "search": "search", "evaluate": "evaluation", "report": "report"}
IN_A_CHAIN = 3  # kills before a command is let to its end, at most
STARTING = 2.0  # seconds of a start in which nothing is computed or written yet
LATEST = 5.0  # milliseconds after the beginning of a write
LAST = 600.0  # seconds that a command may take
OF_THE_CLOCK = {"seconds", "date", "stages", "forward_equivalents", "forward_seconds"}  # keys that time decides
KILLED = -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A command that nothing killed: its seconds, the file of each of its writes, and what came out."""

    seconds: float
    writes: list[str]
    numbers: dict[str, Any]


class Killing:
    """Kills of commands below `home`, counted in rows."""

    def __init__(self, home: Path, rng: random.Random, environment: dict[str, str] | None = None) -> None:
        self.home, self.rng = home, rng
        self.environment = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
        self.undisturbed: dict[str, Undisturbed] = {}
        names = [*(f"a run killed in its {stage}" for stage in STAGES.values()), "an export killed"]
        self.rows = {name: Tally(f"command line: {name}") for name in names}
        self.resumed = Tally("command line: the same command again, to the same numbers")
        self.candidates = Tally("command line: a search with --storage killed", worst="no candidate lost")
        self.lost = 0

    def tallies(self) -> list[Tally]:
        """All rows that were counted."""
        return [*self.rows.values(), self.candidates, self.resumed]

    def kill(self, count: int, until: float) -> int:
        """So many kills, or until time.monotonic() is `until`; returns how many there were."""
        done = 0
        while done < count and time.monotonic() < until:
            kind = self.rng.choices(list(COMMANDS), (4, 1, 1))[0]
            done += self.chain(kind, min(count - done, self.rng.randint(1, IN_A_CHAIN)))
        return done

    def chain(self, kind: str, most: int) -> int:
        """One command killed up to `most` times, and then let to its end; returns how often it was killed."""
        like, folder = self._like(kind), self._folder(kind)
        kept: dict[Path, str] = {}
        known: dict[tuple[str, int], float] = {}
        claimed = killed = 0
        for _ in range(most):
            if (folder / "exported").exists():
                break
            code = self._started(kind, folder, like)
            if code != KILLED:
                break
            killed += 1
            row = self.rows[self._stage(kind, folder)]
            row.count += 1
            row.violations += broken_files(folder)
            kept = self._unchanged(row, folder, kept)
            if kind == "run":
                known, claimed = self._candidates(folder, known, claimed)
        stands = (folder / "exported").exists()  # killed after its move: complete, and nothing is ever overwritten
        code = 0 if stands else self._run(kind, folder, 0, 0.0)
        self.resumed.count += 1
        problems = [*broken_files(folder), *([] if stands else leftovers(folder))]
        if code:
            problems.append(f"{folder}: exit {code}: {(folder / 'said.txt').read_text()[-300:]}")
        elif different := _different(numbers(folder), like.numbers):
            problems.append(f"{folder}: other numbers than without a kill: {different}")
        self._unchanged(self.resumed, folder, kept)
        self.resumed.violations += problems
        if not problems:
            shutil.rmtree(folder)
        return killed

    def _like(self, kind: str) -> Undisturbed:
        if kind not in self.undisturbed:
            folder, began = self._folder(f"undisturbed-{kind}"), time.monotonic()
            code = self._run(kind, folder, 0, 0.0)
            assert code == 0, (folder / "said.txt").read_text()
            seconds, events = time.monotonic() - began, Path(f"{folder}.events").read_text().splitlines()
            self.undisturbed[kind] = Undisturbed(seconds, [_file_of(name) for name in events], numbers(folder))
        return self.undisturbed[kind]

    def _folder(self, name: str) -> Path:
        folder = self.home / f"{name}-{len(list(self.home.glob(f'{name}-*')))}-{self.rng.randrange(10**6)}"
        folder.mkdir(parents=True)
        return folder

    def _started(self, kind: str, folder: Path, like: Undisturbed) -> int:
        if self.rng.random() < 0.5:
            name = self.rng.choice(sorted(set(like.writes)))  # else most would be of the one file that is written most
            at = self.rng.choice([at for at, other in enumerate(like.writes, 1) if other == name])
            return self._run(kind, folder, at, self.rng.choice((0.0, self.rng.uniform(0, LATEST))))
        return self._run(kind, folder, 0, 0.0, self.rng.uniform(min(STARTING, like.seconds / 2), like.seconds))

    def _run(self, kind: str, folder: Path, at: int, later: float, within: float | None = None) -> int:
        """The exit code of the command in `folder`, killed at a write, or after so many seconds."""
        words = ("-m", "benchmarks.endurance.victim", str(folder), str(at), str(later), "--", *COMMANDS[kind])
        with (folder / "said.txt").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, *words], cwd=folder, env=self.environment, stdout=said, stderr=said
            )
            try:
                return process.wait(within or LAST)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
                return code if within else 1

    def _stage(self, kind: str, folder: Path) -> str:
        """The row of what was under way: the first stage whose file is not there."""
        if kind != "run":
            return "an export killed"
        left = [stage for name, stage in STAGES.items() if not (folder / "run" / FINISHED[name]).is_file()]
        return f"a run killed in its {left[0] if left else STAGES['report']}"

    def _unchanged(self, row: Tally, folder: Path, before: dict[Path, str]) -> dict[Path, str]:
        now = finished(folder)
        row.violations += [
            f"{path}: a finished stage was made again" for path in before if now.get(path) != before[path]
        ]
        return now

    def _candidates(
        self, folder: Path, known: dict[tuple[str, int], float], claimed: int
    ) -> tuple[dict[tuple[str, int], float], int]:
        """Finished candidates of the journal and how many were begun only; compared with those after the last kill."""
        if not (folder / "study").is_file():
            return known, claimed
        done, begun = journal(folder / "study")
        self.candidates.count += 1
        gone = [key for key in known if done.get(key) != known[key]]
        lost = len(gone) + max(0, begun - claimed)
        if lost > self.lost:
            self.lost, self.candidates.worst = lost, f"{number_of(lost, 'candidate')} lost"
        if gone or lost > 1:
            said = f"{number_of(begun, 'candidate')} begun, {len(done)} finished, finished before and not now: {gone}"
            self.candidates.violations.append(f"{folder / 'study'}: {said}")
        return done, begun


def journal(path: Path) -> tuple[dict[tuple[str, int], float], int]:
    """Value of every finished candidate by study and number, and how many were begun and are not finished.

    Read by the lines of Optuna's journal themselves; a kill may have cut the last one.
    """
    created: dict[int, tuple[int, int]] = {}  # trial -> study, number
    values: dict[tuple[str, int], float] = {}
    count: dict[int, int] = {}
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["op_code"] == CREATE_TRIAL:
            study = entry["study_id"]
            created[len(created)] = (study, count.get(study, 0))
            count[study] = count.get(study, 0) + 1
        elif entry["op_code"] == FINISH_TRIAL and entry.get("values"):
            study, number = created[entry["trial_id"]]
            values.setdefault((str(study), number), entry["values"][0])
    return values, len(created) - len(values)


CREATE_TRIAL, FINISH_TRIAL = 4, 6  # optuna.storages.journal._storage.JournalOperation


def numbers(folder: Path) -> dict[str, Any]:
    """What a command left, but for what the clock decides: results of a run, hashes of an export's files."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "run").glob("*.json")):
        if path.name != "manifest.json":
            found[path.name] = _timeless(json.loads(path.read_text()))
    note = folder / "exported" / "qroar.json"
    return found | (json.loads(note.read_text())["files"] if note.is_file() else {})


def _file_of(name: str) -> str:
    """The file that a temporary or lock of this name is for."""
    return re.split(r"-|\.lock", name.lstrip("."))[0]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in OF_THE_CLOCK}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _different(one: dict[str, Any], other: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name in {*one, *other} if one.get(name) != other.get(name)))
