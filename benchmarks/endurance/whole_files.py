"""Is every file below a folder absent or complete? What is there is read back, as the product reads it.

What a kill leaves half-written is hidden: its name begins with a dot, no reader looks at it, and the next start that
writes there removes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from qroar_core.errors import QRoarError
from qroar_core.exporters.folder import NOTE
from qroar_core.runs.record import read_record

MANIFEST = "manifest.json"
FINISHED = {  # the file that a stage is finished with, by the stage's name in a manifest
    "diagnose": "diagnosis.json",
    "search": "search.json",
    "evaluate": "evaluation.json",
    "untuned evaluation": "evaluation_untuned.json",
    "report": "report.html",
}


def broken_files(home: Path) -> list[str]:
    """What is wrong with the run folders and exports right below `home`, a line each; hidden names are left out."""
    return [line for folder in _folders(home) for line in _broken(folder)]


def finished(home: Path) -> dict[Path, str]:
    """File of every finished stage below `home` -> SHA-256 of it: the next start must not make it again."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in _folders(home)
        for path in sorted(folder.iterdir())
        if path.name in FINISHED.values()
    }


def leftovers(home: Path) -> list[str]:
    """Hidden files and folders, which a kill leaves and a start that came to its end does not."""
    return [str(path) for path in sorted(home.rglob(".*")) if not {".streamlit", ".cache"} & set(path.parts)]


def _folders(home: Path) -> Iterator[Path]:
    if home.is_dir():
        yield from (path for path in sorted(home.iterdir()) if path.is_dir() and not path.name.startswith("."))


def _broken(folder: Path) -> Iterator[str]:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if not names:
        return
    if NOTE in names or (MANIFEST not in names and "config.json" in names):
        yield from _broken_export(folder)
    elif MANIFEST not in names:
        yield f"{folder}: files without a manifest: {', '.join(sorted(names)[:4])}"
    else:
        try:
            problem = read_record(folder).problem
        except QRoarError as error:
            problem = str(error)
        if problem:
            yield f"{folder}: {problem}"
        if "report.html" in names and not (folder / "report.html").read_text(errors="replace").rstrip().endswith(
            "</html>"
        ):
            yield f"{folder / 'report.html'}: does not end as a page does"


def _broken_export(folder: Path) -> Iterator[str]:
    try:
        listed = json.loads((folder / NOTE).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        yield f"{folder / NOTE}: {type(error).__name__}"
        return
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted({*listed, *there} - {NOTE}):
        if name not in listed or name not in there:
            yield f"{folder / name}: {'missing' if name in listed else 'not in qroar.json'}"
        elif hashlib.sha256(there[name].read_bytes()).hexdigest() != listed[name]["sha256"]:
            yield f"{folder / name}: not as qroar.json has it"
