"""The runs on disk, found again by what they computed.

Every finished stage of the dashboard goes into a run folder below one root, with the files and names of the
command line. A stage's key (stage, checksum, device, dtype, text, rope, quant, its specs) is answered by any
run whose manifest says the same; the device decides no number worth a new run. Keys with anything else in them,
scales made by hand for example, belong to no run. What is kept in memory is as good as the files: a result that was
read stands as long as they are there and unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Hashable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar, cast

from qroar_core.disk_name import disk_name
from qroar_core.errors import BadOutput, QRoarError
from qroar_core.evaluation.result import Evaluation
from qroar_core.job import JobKey
from qroar_core.models.file_stamp import Stamp, stamps
from qroar_core.models.loaded import LoadedModel
from qroar_core.result import Result
from qroar_core.runs.folder import SEARCHED, UNTUNED, RunFolder, lying
from qroar_core.runs.pipeline import load_search, save_search, settle
from qroar_core.runs.record import RunRecord, read_record
from qroar_core.runs.run_files import scales_in
from qroar_core.runs.stage_files import EARLIER, KINDS, SPECS, Tuned, answers, file_of, fits, kind_of, plain, tuned_in
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.transforms.file import write_atomically

Found = TypeVar("Found")
NAME = re.compile(r"\w[\w.-]{0,119}")  # of a run folder: no path leads out of the root by it
COMMAND = "made in the dashboard"
MOST_RESULTS, MOST_DIGESTS = 32, 512  # results, and digests of scales, that are remembered while their files stay


def runs_root() -> Path:
    """Where the dashboard keeps its runs; QROAR_RUNS overrides it."""
    given = os.environ.get("QROAR_RUNS")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(given).expanduser() if given else data / "qroar" / "runs"


def run_name(loaded: LoadedModel, setting: Setting) -> str:
    """Folder name of this model's run under this setting: readable, and another one for any other run."""
    who = [loaded.checksum, str(loaded.dtype), setting.reading]
    every = json.dumps([*who, *(plain(getattr(setting, name)) for name in SPECS.values())])
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", loaded.name).strip(".-") or "model"
    return f"{disk_name(model, 60)}-{hashlib.sha256(every.encode()).hexdigest()[:10]}"


class RunStore:
    """All runs below `runs_root()`. Safe to call from any thread; it holds nothing of its own."""

    def entries(self, thorough: bool = True) -> list[RunRecord]:
        """Every run, newest first; a folder that cannot be read says why in `problem`."""
        try:
            folders = [path for path in runs_root().iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
        except OSError:
            folders = []  # no run was ever kept
        found = [read_record(path, thorough) for path in folders]
        return sorted(found, key=lambda entry: entry.date, reverse=True)

    def entry(self, name: str) -> RunRecord:
        """The run of this folder name in the root. The name is untrusted.

        Raises:
            BadOutput: not a name, no such run, or one that cannot be read.
        """
        if not NAME.fullmatch(name) or not (runs_root() / name).is_dir():
            raise BadOutput("no such run here", where=name[:60], do="see the Runs page for those there are")
        return _whole(read_record(runs_root() / name))

    def open(self, path: Path) -> RunRecord:
        """A run folder anywhere on this disk; it is not taken in. Who calls confines the path.

        Raises:
            BadOutput: not a run, or one that cannot be read.
        """
        return _whole(read_record(path))

    def get(self, key: JobKey[Found]) -> Found | None:
        """The result of a stage's key from the newest run that has it, or None. A run with a damaged file has none.

        Only runs of the root whose model's checksum is the key's answer: an older run, which knows its model by a
        sample of the weights, answers to nobody who has not opened it (`answer`).
        """
        found = self.find(key)
        return None if found is None else found[1]

    def find(self, key: JobKey[Found]) -> tuple[RunRecord, Found] | None:
        """The newest run that answers a key, with the result; see `get`."""
        for entry, name in self._matching(key):
            if (result := _answered(entry, name, key)) is not None:
                return entry, result
        return None

    def answer(self, entry: RunRecord, key: JobKey[Found], fingerprint: str) -> Found | None:
        """The result of `key` from this one run, opened by a person; None where it has none, or is of another model.

        Args:
            fingerprint: the model's, for a run from before models had a checksum.
        """
        mine = (
            entry.checksum == key[1]
            if isinstance(key, tuple) and len(key) > 1 and entry.checksum
            else (entry.fingerprint == fingerprint)
        )
        name = file_of(key)
        if name is None or not mine or not _holds(entry, name, key):
            return None
        return _answered(entry, name, key)

    def keep(
        self,
        key: Hashable,
        loaded: LoadedModel,
        setting: Setting,
        result: Result | SearchOutcome | str,
        seconds: float,
    ) -> Path | None:
        """Write a stage's result into its run folder, and what earlier stages left for it in other folders.

        A key that says more or other than the setting belongs to no run, and so does one whose scales no search here
        has found: nothing is written, and None returned instead of the file.

        Raises:
            BadOutput: the disk is full, or the folder is of another run.
        """
        name, tuned = file_of(key), tuned_in(key)
        if name is None or not fits(key, setting):
            return None
        path = runs_root() / run_name(loaded, setting)
        if tuned is not None and (_tuned(path) or tuned) != tuned:
            return None
        if tuned is not None and self._searched(key, setting, tuned) is None:
            return None
        folder = RunFolder.open(path, loaded, setting, COMMAND)
        stage = key[0] if isinstance(key, tuple) else ""
        self._fill(folder, key, setting, EARLIER[kind_of(name)])
        if stage == "search":
            assert isinstance(result, SearchOutcome)
            save_search(folder, loaded, setting, result, seconds)
        else:
            assert not isinstance(result, SearchOutcome)
            folder.save(name, result, "untuned evaluation" if name == UNTUNED else str(stage), seconds)
        outcome = load_search(folder.path, scales_in) if name == "evaluation.json" else None
        if outcome is not None:
            assert isinstance(result, Evaluation)
            settle(folder, loaded, setting, outcome, result)
        return folder.path / name

    def _fill(self, folder: RunFolder, key: Hashable, setting: Setting, names: tuple[str, ...]) -> None:
        """Copy the files of earlier stages that another run of the same model and specs has: each run is whole."""
        tuned, head = tuned_in(key), key[:5] if isinstance(key, tuple) else ()
        every = self._matching(("diagnose", *head[1:], setting.rope, setting.quant, setting.diagnosis), sound=False)
        diagnosed = next((found for found in every if _readable(*found)), None)
        sources = {"diagnosis.json": diagnosed[0] if diagnosed else None}
        sources |= dict.fromkeys((*SEARCHED, "search.json"), self._searched(key, setting, tuned) if tuned else None)
        for name in names:
            source = sources[name]
            if source is not None and not (folder.path / name).exists():
                write_atomically(folder.path / name, (source.path / name).read_text(encoding="utf-8"))

    def _searched(self, key: Hashable, setting: Setting, tuned: Tuned) -> RunRecord | None:
        """The newest run whose search under this setting found these scales."""
        head = key[1:5] if isinstance(key, tuple) else ()
        search = ("search", *head, setting.rope, setting.quant, setting.search, setting.diagnosis)
        every = self._matching(search, sound=False)  # another file of it that is damaged keeps no result off the disk
        return next((entry for entry, _ in every if _tuned(entry.path) == tuned), None)

    def _matching(self, key: Hashable, sound: bool = True) -> Iterator[tuple[RunRecord, str]]:
        """(run, file) of every run of the root that answers `key`; `sound`: of those that can be read as a whole."""
        name = file_of(key)
        if not isinstance(key, tuple) or len(key) < 6 or name is None:
            return
        for entry in self.entries(thorough=False):
            if entry.checksum and entry.checksum == key[1] and _holds(entry, name, key, sound):
                yield entry, name


def _holds(entry: RunRecord, name: str, key: Hashable, sound: bool = True) -> bool:
    """Has this run the file, made under what the key asks in its dtype, text and specs? The model is not looked at.

    Args:
        sound: a run of which any file cannot be read has none.
    """
    if not isinstance(key, tuple) or len(key) < 6 or entry.setting is None:
        return False
    dtype, text = key[3:5]
    if (entry.dtype, entry.setting.reading) != (str(dtype).removeprefix("torch."), text):
        return False
    tuned = tuned_in(key)
    if not fits(key, entry.setting) or (sound and entry.checked().problem):
        return False
    return lying(entry.path, name).is_file() and (tuned is None or _tuned(entry.path) == tuned)


def _answered(entry: RunRecord, name: str, key: JobKey[Found]) -> Found | None:
    try:
        result = _load(entry, name)
    except QRoarError:
        return None
    return cast("Found", result) if result is not None and answers(result, key) else None


def _tuned(path: Path) -> Tuned | None:
    """The scales that the search in this run folder found, None where there is none that can be read."""
    return _tuned_then(path, stamps(path / name for name in _files("search.json")))


@lru_cache(maxsize=MOST_DIGESTS)
def _tuned_then(path: Path, then: Stamp) -> Tuned | None:
    try:
        outcome = load_search(path, scales_in)
    except QRoarError:
        return None
    return Tuned.of(outcome) if outcome is not None else None


def _load(entry: RunRecord, name: str) -> object:
    return _loaded_then(entry.path, name, entry.fingerprint, stamps(lying(entry.path, file) for file in _files(name)))


@lru_cache(maxsize=MOST_RESULTS)
def _loaded_then(path: Path, name: str, fingerprint: str, then: Stamp) -> object:
    if kind := KINDS.get(kind_of(name)):
        return kind.from_file(lying(path, name), BadOutput)
    return load_search(path, partial(scales_in, fingerprint=fingerprint))


def _files(name: str) -> tuple[str, ...]:
    """What is read for a stage's file."""
    return (name, *SEARCHED) if name == "search.json" else (name,)


def _readable(entry: RunRecord, name: str) -> bool:
    try:
        return _load(entry, name) is not None
    except QRoarError:
        return False


def _whole(entry: RunRecord) -> RunRecord:
    if entry.problem:
        raise BadOutput(entry.problem)
    return entry
