"""The files of an exported folder: each as it was written, and none that no list names.

A shard beside model.safetensors is passed over by transformers and read by others, which take every file of weights
that they find. What lies there and was not written by `export` is named, whatever it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qroar_core.errors import QRoarError
from qroar_core.exporters.check import Check
from qroar_core.exporters.folder import NOTE
from qroar_core.models.formats.digest import sha256
from qroar_core.models.formats.folder_tensors import INDEX, OF_WEIGHTS, WEIGHTS, weight_files

QUESTION = "files that no index lists"
LINES = 5  # names in one answer


def hashes(folder: Path, note: dict[str, Any]) -> list[Check]:
    """One check for each file that qroar.json lists."""
    checks = []
    for name, said in note["files"].items():
        path = folder / name
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            checks.append(Check(f"{name} is there", "missing", False))
            continue
        same = sha256(path) == said.get("sha256")
        checks.append(Check(f"{name} is as written", "same hash" if same else "changed since", same))
    return checks


def unlisted(folder: Path, note: dict[str, Any], whole_file: bool) -> Check:
    """One check: what lies there and stands in no list. Names that begin with a dot are git's and the Hub's.

    Args:
        whole_file: the format is one file, so that no index of tensors belongs there.
    """
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there = {name for name in there if name != NOTE and not any(part.startswith(".") for part in Path(name).parts)}
    answers = _named(there - note["files"].keys(), NOTE)
    of_weights = {name for name in there if any(Path(name).match(like) for like in OF_WEIGHTS)}
    if whole_file:
        files = sorted(name for name in of_weights if name.endswith(".gguf"))
        answers += [f"{len(files)} .gguf files where one belongs: {', '.join(files[:LINES])}"] if len(files) > 1 else []
        answers += _named(of_weights - {*files}, "the format")
    else:
        try:
            read = {path.relative_to(folder).as_posix() for path in weight_files(folder)}
            answers += _named(of_weights - read, INDEX if (folder / INDEX).is_file() else f"{WEIGHTS}, read alone,")
        except QRoarError as error:
            answers.append(str(error)[:160])
    return Check(QUESTION, "; ".join(answers) or "none", not answers, "remove them, or export it again")


def _named(names: set[str], by: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - LINES} more" if len(names) > LINES else ""
    return [f"{', '.join(sorted(names)[:LINES])}{more}, of which {by} knows nothing"]
