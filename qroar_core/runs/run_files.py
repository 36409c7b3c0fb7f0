"""The files of a run folder: what each holds, and whether all of them can be read.

A run that shows some of its results and drops others without a word is worse than one that says what is wrong with it.
So a run is sound as a whole: every file in it is of its kind, agrees with the manifest, and belongs to its stage.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from qroar_core.errors import BadOutput, BadScales, QRoarError
from qroar_core.harness.result import TaskScores
from qroar_core.plain_file import reason
from qroar_core.result import Result
from qroar_core.runs.agreement import COMPARED_FILES, MAKE_AGAIN, disagreement
from qroar_core.runs.folder import (
    FORMERLY,
    RETRIEVALS,
    ROTATED,
    SEARCHED,
    SEVERAL,
    TASK_SCORES,
    UNTUNED,
    answers_of,
    has,
)
from qroar_core.runs.manifest import Manifest
from qroar_core.runs.stage_files import KINDS, kind_of
from qroar_core.scale_search.result import SearchReport
from qroar_core.setting import Setting
from qroar_core.transforms.file import content_scales
from qroar_core.transforms.result import ScalesFile
from qroar_core.transforms.scales import Scales

REMEMBERED = 4096  # files whose soundness is known
SIZES = ("layers", "kv_heads", "head_dim", "rotary_dim", "pairing")  # of a model that scales fit
SCALES = (*SEARCHED, ROTATED, "scales.json")
RESULTS: dict[str, type[Result]] = KINDS | {"search.json": SearchReport, TASK_SCORES: TaskScores}
MADE = {  # stage of a manifest: its file. Of a search, which is noted with its first file, see `_missing`
    "diagnose": "diagnosis.json",
    "evaluate": "evaluation.json",
    "untuned evaluation": UNTUNED,
    "search under rotation": ROTATED,
    "settle": "scales.json",
    "lm-eval": TASK_SCORES,
}


def scales_in(path: Path, fingerprint: str = "") -> Scales:
    """Scales from a run's file, exact.

    Raises:
        BadScales: it cannot be read, or holds scales of another model than `fingerprint`.
    """
    content = ScalesFile.from_file(path, BadScales)
    if fingerprint and content.model.fingerprint != fingerprint:
        raise BadScales("made for another model", where=str(path), do="search scales for this model")
    who = content.model
    return content_scales(content, who.layers, who.kv_heads)


def check_run(folder: Path, manifest: Manifest, setting: Setting) -> None:
    """Look at every file of a run; one that has not changed is read once.

    Scales must be of the run's model, with the options of its search: nothing else of the run fits others.

    Raises:
        BadOutput: what is wrong with the first that is not sound, or that a finished stage lacks.
    """
    said = [(name, manifest.model.get(name)) for name in ("fingerprint", *SIZES)]
    asked = (*said, ("granularity", setting.search.granularity), ("mode", setting.search.mode))
    for name in _names(folder):
        if problem := _problem(folder / name, *stamp(folder / name), asked if name in SCALES else ()):
            raise BadOutput(problem)
    for name in _missing(folder, manifest):
        raise BadOutput(f"{name} is missing, but the manifest lists it as made", where=str(folder), do=MAKE_AGAIN)
    stamps = tuple((name, *stamp(folder / name)) for name in COMPARED_FILES if has(folder, name))
    if problem := _disagreement(folder, stamps, setting):
        raise BadOutput(problem)


def _names(folder: Path) -> list[str]:
    """Files of results that lie in the folder, whatever they are."""
    several = [name for stage in SEVERAL for name in answers_of(folder, stage)]
    return [name for name in (*(name for name in RESULTS if "." in name), *SCALES, *several) if has(folder, name)]


def _missing(folder: Path, manifest: Manifest) -> list[str]:
    wanted = [name for stage, name in MADE.items() if stage in manifest.stages]
    wanted += SEARCHED if has(folder, "search.json") else ()
    lacking = [name for name in wanted if not has(folder, name)]
    if "retrieve" in manifest.stages and not any(has(folder, name) for name in RETRIEVALS.values()):
        lacking.append(RETRIEVALS[True])
    noted = [stage for stage in SEVERAL if {stage, FORMERLY.get(stage)} & set(manifest.stages)]
    several = [stage for stage in noted if not answers_of(folder, stage)]
    return lacking + [f"{stage}-….json" for stage in several]


def stamp(path: Path) -> tuple[int, int]:
    """When a file was last changed, and its size: the same as long as it says the same.

    Raises:
        BadOutput: it is not there.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise BadOutput(f"cannot be read: {reason(error)}", where=str(path)) from error
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=REMEMBERED)
def _problem(path: Path, changed: int, size: int, asked: tuple[tuple[str, object], ...]) -> str:
    """What is wrong with a file, without keeping its contents; "" where nothing is."""
    try:
        if path.name in SCALES:
            return _other_scales(path, asked)
        RESULTS[kind_of(path.name)].from_file(path, BadOutput)
    except QRoarError as problem:
        return str(problem)
    return ""


@lru_cache(maxsize=REMEMBERED)
def _disagreement(folder: Path, stamps: tuple[tuple[str, int, int], ...], setting: Setting) -> str:
    """What the files of a run say against each other; "" where they agree."""
    problem = disagreement(folder, setting)
    return f"{problem}; {MAKE_AGAIN}" if problem else ""


def _other_scales(path: Path, asked: tuple[tuple[str, object], ...]) -> str:
    """In what scales are another model's or another search's than the run's: nothing of the run fits them then."""
    content = ScalesFile.from_file(path, BadOutput)
    for name, wanted in asked:
        theirs = getattr(content, name, None) if name in ("granularity", "mode") else getattr(content.model, name)
        if theirs != wanted:
            return str(
                BadOutput(
                    f"its scales have {name.replace('_', ' ')} {theirs}, but the manifest has {wanted}",
                    where=str(path),
                    do=MAKE_AGAIN,
                )
            )
    scales_in(path)
    return ""
