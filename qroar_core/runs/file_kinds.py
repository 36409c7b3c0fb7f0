"""What a JSON file is that was given where another kind was asked for, and what opens it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from qroar_core.errors import BadSpec, QRoarError
from qroar_core.interpolations.rope_file import rope_from_file
from qroar_core.interpolations.spec import RopeSpec
from qroar_core.plain_file import NotPlain, read_json
from qroar_core.result import Result

ALIKE = 0.75  # share of a kind's keys that a file must have, and share of its keys that the kind must know
STOPPED_ROPE_SEARCH, INTERPOLATION = "what a stopped search of interpolations left", "an interpolation"
PAGE = "open its run in the dashboard (qroar dashboard)"


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind of file: `a diagnosis`, and what to do to open one."""

    words: str
    do: str
    needed: frozenset[str]  # keys that such a file has
    known: frozenset[str]  # ... and may have


def _of(words: str, do: str, kind: type[Result]) -> FileKind:
    needed = frozenset(name for name, field in kind.model_fields.items() if field.is_required())
    return FileKind(words, do, needed, frozenset(kind.model_fields))


@cache
def file_kinds() -> tuple[FileKind, ...]:
    """All of them; what they are made of, scipy behind it, is imported once a file has been refused."""
    from qroar_core.diagnostics.result import Diagnosis
    from qroar_core.evaluation.result import Evaluation
    from qroar_core.evidence.controls.result import Controls
    from qroar_core.evidence.prediction.result import Prediction
    from qroar_core.evidence.replication.result import Replication
    from qroar_core.harness.result import TaskScores
    from qroar_core.remedies.result import Comparison
    from qroar_core.remedies.result_layers import LayerChoice
    from qroar_core.retrieval.result import Retrieval
    from qroar_core.rope_search.result import RopeSearch, RopeTrials
    from qroar_core.runs.manifest import Manifest
    from qroar_core.scale_search.result import SearchReport
    from qroar_core.scale_search.result_ties import TieChoice
    from qroar_core.transforms.result import ScalesFile

    return (
        _of("a diagnosis", "open it with qroar.Diagnosis.load", Diagnosis),
        _of("an evaluation", "open it with qroar.Evaluation.load", Evaluation),
        _of("a retrieval test", "open it with qroar.Retrieval.load", Retrieval),
        _of("a file of task scores", "open it with qroar.TaskScores.load", TaskScores),
        _of("a comparison of remedies", "open it with qroar.Comparison.load", Comparison),
        _of("a choice of layers", "open it with qroar.LayerChoice.load", LayerChoice),
        _of("a choice of tied pairs", "open it with qroar.TieChoice.load", TieChoice),
        _of(
            "a search of interpolations",
            "give the rope.json beside it to a command as `--rope`, or open it with qroar.RopeSearch.load",
            RopeSearch,
        ),
        _of(
            STOPPED_ROPE_SEARCH,
            "repeat its `tune-rope` command with the same --out, or give it as qroar.tune_rope(resume=...)",
            RopeTrials,
        ),
        _of("a file of scales", "open it with qroar.Transform.load, or give it to a command as `--scales`", ScalesFile),
        _of("the report of a search of scales", "open its folder with qroar.Search.load", SearchReport),
        _of("the manifest of a run", "name its folder to `qroar run --out`, or open the other files in it", Manifest),
        _of("a file of controls", PAGE, Controls),
        _of("a file of tested claims", PAGE, Replication),
        _of("a file of what single bands cost", PAGE, Prediction),
        FileKind(
            INTERPOLATION,
            "read it with qroar.load_rope, or give it to a command as `--rope`",
            frozenset({"method", "factor"}),
            frozenset(field.name for field in fields(RopeSpec)),
        ),
    )


def kind_of_file(path: Path) -> FileKind | None:
    """Which kind of file lies there, by its keys; None where it is none of them."""
    try:
        content = read_json(path, Result.MOST)
    except (OSError, ValueError, NotPlain):
        return None
    keys = set(content) if isinstance(content, dict) else set()
    if not keys:
        return None
    kinds = file_kinds()
    shares = [(len(keys & kind.needed) / len(kind.needed), len(keys & kind.known) / len(keys)) for kind in kinds]
    share, best = max(((min(one), sum(one)), -at) for at, one in enumerate(shares))
    return kinds[-best] if share[0] >= ALIKE else None


@contextmanager
def other_kind_named(path: Path, wanted: str, error: type[QRoarError], where: str = "") -> Iterator[None]:
    """Where a file is refused because it is of another kind, say of which, and what opens it.

    Args:
        wanted: in the words of `file_kinds`.
        where: what a message calls the file, by default its path.
    Raises:
        error: in place of itself.
    """
    try:
        yield
    except error as problem:
        found = kind_of_file(path)
        if found is None or found.words == wanted:
            raise
        raise error(f"is {found.words}, not {wanted}", where=where or str(path), do=found.do) from problem


def interpolation_of(path: Path | str) -> RopeSpec:
    """The interpolation of a file, as `rope_from_file` reads it.

    Raises:
        BadSpec: what is wrong with it; a file of another kind is named, with what opens it.
    """
    with other_kind_named(Path(path).expanduser(), INTERPOLATION, BadSpec, where=f"--rope {path}"):
        return rope_from_file(path)
