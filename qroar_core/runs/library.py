"""The runs on disk, found again by what they computed.

Every finished stage of the dashboard goes into a run folder below one root, with the files and names of the
command line. A stage's key (stage, fingerprint, device, dtype, text, rope, quant, its specs) is answered by any
run whose manifest says the same; the device decides no number worth a new run. Keys with anything else in them,
scales made by hand for example, belong to no run. Nothing here is kept in memory but parsed manifests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from qroar_core.errors import BadOutput, BadScales, QRoarError
from qroar_core.maths.rescale import Scales, from_nested
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.scales_file import write_atomically
from qroar_core.results import ScalesFile
from qroar_core.runs.entry import Entry, read_entry
from qroar_core.runs.folder import UNTUNED, RunFolder
from qroar_core.runs.key_files import EARLIER, KINDS, SPECS, answers, file_of, fits, kind_of, plain
from qroar_core.runs.pipeline import SEARCHED, load_search, save_search, settle
from qroar_core.runs.setting import Setting

NAME = re.compile(r"\w[\w.-]{0,119}")  # of a run folder: no path leads out of the root by it
COMMAND = "made in the dashboard"


def runs_root() -> Path:
    """Where the dashboard keeps its runs; QROAR_RUNS overrides it."""
    given = os.environ.get("QROAR_RUNS")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(given).expanduser() if given else data / "qroar" / "runs"


def run_name(loaded: LoadedModel, setting: Setting) -> str:
    """Folder name of this model's run under this setting: readable, and another one for any other run."""
    who = [loaded.fingerprint, str(loaded.dtype), setting.reading]
    every = json.dumps([*who, *(plain(getattr(setting, name)) for name in SPECS.values())])
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", loaded.name).strip(".-")[:60] or "model"
    return f"{model}-{hashlib.sha256(every.encode()).hexdigest()[:10]}"


class Library:
    """All runs below `runs_root()`, and single folders opened from elsewhere. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: list[Path] = []

    def entries(self, thorough: bool = True) -> list[Entry]:
        """Every run, newest first; a folder that cannot be read says why in `problem`."""
        with self._lock:
            folders = list(self._opened)
        try:
            folders += [path for path in runs_root().iterdir() if NAME.fullmatch(path.name) and path.is_dir()]
        except OSError:
            pass  # no run was ever kept
        found = [read_entry(path, thorough) for path in dict.fromkeys(folders)]
        return sorted(found, key=lambda entry: entry.date, reverse=True)

    def entry(self, name: str) -> Entry:
        """The run of this folder name in the root. The name is untrusted.

        Raises:
            BadOutput: not a name, no such run, or one that cannot be read.
        """
        if not NAME.fullmatch(name) or not (runs_root() / name).is_dir():
            raise BadOutput("no such run here", where=name[:60], do="see the Runs page for those there are")
        return _whole(read_entry(runs_root() / name))

    def open(self, path: Path) -> Entry:
        """Take in a run folder from elsewhere, until the dashboard is restarted. Who calls confines the path.

        Raises:
            BadOutput: not a run, or one that cannot be read.
        """
        found = _whole(read_entry(path))
        with self._lock:
            if path.parent != runs_root() and path not in self._opened:
                self._opened.append(path)
        return found

    def get(self, key: Hashable) -> Any:
        """The result of a stage's key from the newest run that has it, or None. A damaged file counts as absent."""
        for entry, name in self._matching(key):
            try:
                result = _load(entry, name)
            except QRoarError:
                continue
            if result is not None and answers(result, key):
                return result
        return None

    def keep(self, key: Hashable, loaded: LoadedModel, setting: Setting, result: Any, seconds: float) -> None:
        """Write a stage's result into its run folder, and what earlier stages left for it in other folders.

        A key that says more or other than the setting belongs to no run: nothing is written.

        Raises:
            BadOutput: the disk is full, or the folder is of another run.
        """
        name = file_of(key)
        if name is None or not fits(key, setting):
            return
        folder = RunFolder.open(runs_root() / run_name(loaded, setting), loaded, setting, COMMAND)
        stage = key[0] if isinstance(key, tuple) else ""
        self._fill(folder, key, setting, EARLIER[kind_of(name)])
        if stage == "search":
            save_search(folder, loaded, setting, result, seconds)
        else:
            folder.save(name, result, "untuned evaluation" if name == UNTUNED else stage, seconds)
        outcome = load_search(folder.path, partial(_scales, loaded.fingerprint)) if name == "evaluation.json" else None
        if outcome is not None:
            settle(folder, loaded, setting, outcome, result)

    def _fill(self, folder: RunFolder, key: Hashable, setting: Setting, names: tuple[str, ...]) -> None:
        """Copy the files of earlier stages that another run of the same model and specs has: each run is whole."""
        head = key[:5] if isinstance(key, tuple) else ()
        asked: dict[str, tuple] = {"diagnosis.json": ("diagnose", setting.diagnosis)}
        asked |= dict.fromkeys((*SEARCHED, "search.json"), ("search", setting.search, setting.diagnosis))
        for name in names:
            stage, *specs = asked[name]
            every = self._matching((stage, *head[1:], setting.rope, setting.quant, *specs))
            source = next((found for found in every if _readable(*found)), None)
            if source is not None and not (folder.path / name).exists():
                write_atomically(folder.path / name, (source[0].path / name).read_text(encoding="utf-8"))

    def _matching(self, key: Hashable) -> Iterator[tuple[Entry, str]]:
        """(run, file) of every run that answers `key`."""
        name = file_of(key)
        if not isinstance(key, tuple) or len(key) < 6 or name is None:
            return
        _, fingerprint, _, dtype, text, *_ = key
        for entry in self.entries(thorough=False):
            if entry.setting is None or (entry.fingerprint, entry.dtype, entry.setting.reading) != (
                fingerprint, str(dtype).removeprefix("torch."), text
            ):  # fmt: skip
                continue
            if (entry.path / name).is_file() and fits(key, entry.setting):
                yield entry, name


def _load(entry: Entry, name: str) -> Any:
    if kind := KINDS.get(kind_of(name)):
        return kind.from_file(entry.path / name, BadOutput)
    return load_search(entry.path, partial(_scales, entry.fingerprint))


def _readable(entry: Entry, name: str) -> bool:
    try:
        return _load(entry, name) is not None
    except QRoarError:
        return False


def _scales(fingerprint: str, path: Path) -> Scales:
    """Scales from a run's file, exact; raises BadScales when they are another model's."""
    content = ScalesFile.from_file(path, BadScales)
    if content.model.fingerprint != fingerprint:
        raise BadScales("made for another model", where=str(path), do="search scales for this model")
    who = content.model
    return from_nested(content.g, content.mode, content.granularity, tuple(content.bands), who.layers, who.kv_heads,
                       content.angles)  # fmt: skip


def _whole(entry: Entry) -> Entry:
    if entry.problem:
        raise BadOutput(entry.problem)
    return entry
