"""One run folder as a list of runs sees it: whose, when, under which setting, and what came out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from qroar_core.errors import BadOutput, QRoarError
from qroar_core.evaluation.result import Evaluation
from qroar_core.harness.result import TaskScores
from qroar_core.result import Result, rounded
from qroar_core.runs.folder import SEVERAL, TASK_SCORES, answers_of, has
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.run_files import check_run, stamp
from qroar_core.scale_search.result import SearchReport
from qroar_core.setting import Setting
from qroar_core.specs.written import under_todays_names
from qroar_core.transforms.result import ScalesFile

R = TypeVar("R", bound=Result)
REMEMBERED = 512  # parsed small files


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
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

    def task_scores(self) -> TaskScores | None:
        """Scores of lm-evaluation-harness's tasks, which `lm-eval` leaves."""
        return self._read(TASK_SCORES, TaskScores)

    def beside(self) -> dict[str, set[str]]:
        """Comparisons, controls, claims and predictions of this run: stage -> its files; none where there are none."""
        files = {stage: set(answers_of(self.path, stage)) for stage in SEVERAL}
        return {stage: names for stage, names in files.items() if names}

    def _read(self, name: str, kind: type[R]) -> R | None:
        return parsed(self.path / name, kind) if has(self.path, name) else None

    def checked(self) -> RunRecord:
        """This run, or one with its problem where a file of it cannot be read: then no stage of it counts."""
        if self.manifest is None or self.setting is None:
            return self
        try:
            check_run(self.path, self.manifest, self.setting)
        except QRoarError as problem:
            return RunRecord(self.path, _changed(self.path), str(problem))
        return self


def read_record(path: Path, thorough: bool = True) -> RunRecord:
    """The run in this folder; one that cannot be read is an entry with its problem.

    `thorough` also looks at every file of it; without it the manifest alone decides.
    """
    file = path / "manifest.json"
    try:
        if not has(path, file.name):
            raise BadOutput("no such file: not a run", where=str(file), do="open what `run --out` made")
        manifest, setting = _understood(file, *stamp(file))
    except QRoarError as problem:
        return RunRecord(path, _changed(path), str(problem))
    entry = RunRecord(path, _date(manifest, path), "", manifest, setting)
    return entry.checked() if thorough else entry


def parsed(path: Path, kind: type[R]) -> R:
    """A result file, read once as long as it does not change.

    Raises:
        BadOutput: missing, or as `Result.from_file`.
    """
    return _parsed(path, *stamp(path), kind)


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
        specs = under_todays_names(manifest.specs)
        setting = _SETTING.validate_python(specs | {"text": manifest.text})
        if not _holds(specs, rounded(asdict(setting))):  # a manifest may also name what today's leave out
            raise BadOutput("specs: an option not known here", where=str(path), do="use the version it names")
        if left := _left_open(setting):
            raise BadOutput(f"specs: {left} is left open", where=str(path), do="a run says at which length it was made")
        return setting
    except ValidationError as problem:
        first = problem.errors()[0]
        at = ".".join(map(str, first["loc"])) or "specs"
        raise BadOutput(
            f"{at}: {first['msg'].removeprefix('Value error, ')}", where=str(path), do="it was made by another version"
        ) from problem


def _left_open(setting: Setting) -> str:
    """A length that the run does not say, which another model or machine would fill in otherwise; empty if none."""
    lengths = {
        "diagnosis.length": setting.diagnosis.length,
        "search.length": setting.search.length,
        "evaluation.lengths": setting.evaluation.lengths,
    }
    return next((name for name, length in lengths.items() if not length), "")


def _holds(noted: Any, understood: Any) -> bool:
    """Does `understood` hold everything that was `noted`? It may hold more: options younger than the run."""
    if isinstance(noted, dict):
        known = understood if isinstance(understood, dict) else {}
        return all(name in known and _holds(value, known[name]) for name, value in noted.items())
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
