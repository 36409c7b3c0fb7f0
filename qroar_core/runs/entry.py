"""One run folder as a list of runs sees it: whose, when, under which setting, and what came out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from qroar_core.errors import BadOutput, QRoarError
from qroar_core.result import Result, rounded
from qroar_core.results import Diagnosis, Evaluation, Manifest, ScalesFile, SearchReport
from qroar_core.runs.folder import SEVERAL
from qroar_core.runs.setting import Setting

R = TypeVar("R", bound=Result)
REMEMBERED = 512  # parsed small files
SIZES = ("layers", "kv_heads", "head_dim", "rotary_dim", "pairing")  # of a model that scales fit
LARGEST = 16 * 2**20  # bytes of a file that a list of runs may read; larger ones are nobody's run


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """`problem` is one line where the folder is not a readable run; then everything of the manifest is empty.

    `source` is what to load, `dtype` how; `date` when the run was begun, UTC.
    """

    path: Path
    date: datetime
    problem: str = ""
    manifest: Manifest | None = None
    setting: Setting | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def model(self) -> str:
        """The model's name, or "" where unreadable."""
        return str(self.manifest.model.get("name", "")) if self.manifest else ""

    @property
    def fingerprint(self) -> str:
        """The model's fingerprint, or "" where unreadable."""
        return str(self.manifest.model.get("fingerprint", "")) if self.manifest else ""

    @property
    def checksum(self) -> str:
        """The model's checksum; "" where unreadable, and in older runs, which know their model by less."""
        return self.manifest.identity if self.manifest else ""

    @property
    def source(self) -> str:
        """What to load for this run."""
        return (self.manifest.source or self.model) if self.manifest else ""

    @property
    def dtype(self) -> str:
        """Of the weights: float32, bfloat16, ..."""
        return self.manifest.dtype if self.manifest else ""

    def evaluation(self) -> Evaluation | None:
        """The evaluation of the scales found, if the run got that far."""
        return self._read("evaluation.json", Evaluation)

    def report(self) -> SearchReport | None:
        """How the search went."""
        return self._read("search.json", SearchReport)

    def found(self) -> ScalesFile | None:
        """The scales the search found, kept or not."""
        return self._read("scales_found.json", ScalesFile)

    def kept(self) -> ScalesFile | None:
        """The scales worth keeping: identity where decision or evaluation show no gain."""
        return self._read("scales.json", ScalesFile)

    def beside(self) -> dict[str, set[str]]:
        """Leagues, controls, claims and predictions of this run: stage -> its files; stages without any are left out.

        By name only: what a file holds shows when it is opened.
        """
        files = {stage: {path.name for path in self.path.glob(f"{stage}-*.json")} for stage in SEVERAL}
        return {stage: names for stage, names in files.items() if names}

    def _read(self, name: str, kind: type[R]) -> R | None:
        return parsed(self.path / name, kind) if (self.path / name).is_file() else None


def read_entry(path: Path, thorough: bool = True) -> Entry:
    """The run in this folder; one that cannot be read is an entry with its problem.

    `thorough` also reads what came out; without it the manifest alone decides.
    """
    try:
        manifest, setting = _understood(path / "manifest.json", *_stamp(path / "manifest.json"))
        entry = Entry(path, _date(manifest, path), "", manifest, setting)
        if thorough:
            entry.evaluation(), entry.report()
            for scales in (entry.found(), entry.kept()):
                _of_this_run(scales, manifest, setting, path)
            _readable(path / "diagnosis.json", Diagnosis)
        return entry
    except QRoarError as problem:
        return Entry(path, _changed(path), str(problem))


def _of_this_run(scales: ScalesFile | None, manifest: Manifest, setting: Setting, path: Path) -> None:
    """Raises BadOutput for scales of another model or another search than the run's: nothing of the run fits them."""
    if scales is None:
        return
    theirs, asked = scales.model.model_dump(), setting.search
    said = [(name, theirs[name], manifest.model.get(name)) for name in SIZES]
    said += [(name, getattr(scales, name), getattr(asked, name)) for name in ("granularity", "mode")]
    for name, one, other in said:
        if one != other:
            raise BadOutput(f"its scales have {name.replace('_', ' ')} {one}, its manifest says {other}",
                            where=str(path), do="the run contradicts itself; make it again")  # fmt: skip


def _readable(path: Path, kind: type[Result]) -> None:
    """Raises BadOutput for a file that cannot be read; one too large for a list of runs is left for who opens it."""
    if path.is_file() and path.stat().st_size <= LARGEST and (problem := _problem(path, *_stamp(path), kind)):
        raise BadOutput(problem)


@lru_cache(maxsize=8 * REMEMBERED)
def _problem(path: Path, changed: int, size: int, kind: type[Any]) -> str:
    """What is wrong with a file, without keeping its contents."""
    try:
        kind.from_file(path, BadOutput)
    except QRoarError as problem:
        return str(problem)
    return ""


def parsed(path: Path, kind: type[R]) -> R:
    """A result file, read once as long as it does not change.

    Raises:
        BadOutput: missing, too large, or not of this layout.
    """
    return _parsed(path, *_stamp(path), kind)


def _stamp(path: Path) -> tuple[int, int]:
    """When a file was last changed, and its size: the same as long as it says the same."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise BadOutput("no such file: not a run", where=str(path), do="open what `run --out` made") from error
    if stat.st_size > LARGEST:
        raise BadOutput(f"too large for a run's file ({stat.st_size} bytes)", where=str(path))
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=REMEMBERED)
def _parsed(path: Path, changed: int, size: int, kind: type[Any]) -> Any:
    return kind.from_file(path, BadOutput)


@lru_cache(maxsize=REMEMBERED)
def _understood(path: Path, changed: int, size: int) -> tuple[Manifest, Setting]:
    """A manifest with its setting, once as long as it does not change: every job's key is asked of every run."""
    manifest = Manifest.from_file(path, BadOutput)
    return manifest, _setting(manifest, path.parent)


def _setting(manifest: Manifest, path: Path) -> Setting:
    try:
        setting = _SETTING.validate_python(manifest.specs | {"text": manifest.text})
        if not _said(manifest.specs, rounded(setting.as_dict())):
            raise BadOutput("specs: an option not known here", where=str(path), do="use the version it names")
        return setting
    except ValidationError as problem:
        first = problem.errors()[0]
        at = ".".join(map(str, first["loc"])) or "specs"
        raise BadOutput(f"{at}: {first['msg']}", where=str(path), do="it was made by another version") from problem


def _said(noted: Any, understood: Any) -> bool:
    """Does `understood` hold everything that was `noted`? It may hold more: options younger than the run."""
    if isinstance(noted, dict):
        known = understood if isinstance(understood, dict) else {}
        return all(name in known and _said(value, known[name]) for name, value in noted.items())
    return bool(noted == understood)


def _date(manifest: Manifest, path: Path) -> datetime:
    try:
        begun = datetime.fromisoformat(manifest.date)
        return begun if begun.tzinfo else begun.replace(tzinfo=UTC)
    except ValueError:  # runs of before the manifest had a date
        return _changed(path)


def _changed(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.fromtimestamp(0, UTC)


_SETTING: TypeAdapter[Setting] = TypeAdapter(Setting)
