"""Texts by name: one field of a dataset, read with Hugging Face's `datasets` library, which is an optional extra.

NAME is a dataset of the hub, a local folder, or a JSONL, CSV or parquet file. Every row is a document. Rows are read in
order until `MOST` characters are there; the result's label says how many. What a document is for follows from its place
among the different documents read, so that no two parts share a text. Of eight, three are for diagnosis and search, two
for the guard and the decision whether scales are kept, and three are read by evaluation and the tests beside it alone.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from qroar_core.errors import BadSpec, BadText
from qroar_core.models.text_files import ENDS, Document, lines_as_lf, open_text, thirds

OPTION = "--dataset"
PATHS = ("/", "./", "../", "~")  # how a path begins that cannot be a name on the hub
MOST = 32 * 2**20  # characters of documents that are read
READERS = {
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"delimiter": "\t"}),
    ".parquet": ("parquet", {}),
    ".txt": ("text", {}),
}
TURN = ("heldout", "calibration", "development", "heldout", "calibration", "development", "calibration", "heldout")


@dataclass(frozen=True, slots=True, eq=False)
class DatasetAddress:
    """NAME[:CONFIG[:SPLIT]]:FIELD, taken apart."""

    name: str
    config: str
    split: str
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Documents of calibration, development and heldout, and the name of all of them, their content included."""

    parts: dict[str, list[Document]]
    label: str


def parse(asked: str) -> DatasetAddress:
    """Take the option's value apart. The longest NAME that lies on this disk counts, colons in it included.

    Raises:
        BadSpec: no field, too many parts, or the path of nothing.
    """
    first, *rest = _name_and_rest(asked.split(":"))
    if not first or not rest or len(rest) > 3 or not rest[-1]:
        raise BadSpec(
            f"{asked!r} is not NAME[:CONFIG[:SPLIT]]:FIELD",
            where=OPTION,
            do="write for example notes.jsonl:text or org/name:config:test:text",
        )
    config, split = (*rest[:-1], "", "")[:2]
    return DatasetAddress(first, config, split, rest[-1])


def _name_and_rest(parts: list[str]) -> list[str]:
    """The parts between colons, those of a path on this disk joined."""
    for count in range(len(parts) - 1, 1, -1):
        name = ":".join(parts[:count])
        if _lies_here(name):
            return [name, *parts[count:]]
    if parts[0].startswith(PATHS) and any("/" in part for part in parts[1:]) and not _lies_here(parts[0]):
        last = max(i for i, part in enumerate(parts) if "/" in part)  # a path that has colons in it
        raise BadSpec("no such file or folder", where=":".join(parts[: last + 1]), do="check the path")
    return parts


def _lies_here(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no path at all, or one of nobody's home
        return False


@lru_cache(maxsize=1)
def dataset_documents(asked: str) -> Dataset:
    """The documents of one field.

    Raises:
        BadSpec: not NAME:FIELD, `datasets` is not installed, or a config, split or field that is not there.
        BadText: the dataset cannot be read, or holds no text.
    """
    what = parse(asked)
    rows = _rows(what)
    found: dict[str, None] = {}  # different texts, in order
    read, size, changed = 0, 0, False
    try:
        for row in rows:
            text = _text(row, what, read + 1)
            changed, text = changed or "\r" in text, lines_as_lf(text)
            read += 1
            if text.strip() and text not in found:
                found[text] = None
                size += len(text)
            if size >= MOST:
                break
    except BadSpec:
        raise
    except Exception as error:  # the library's readers raise what theirs raise
        raise _unreadable(what, error) from error
    if not read:
        raise BadText("it holds no rows", where=what.name, do="give a dataset with text in it")
    if not found:
        raise BadText(f"the field {what.field!r} holds no text", where=what.name, do="name another field")
    note = ENDS if changed else ""
    documents = [Document(f"{what.field} {i}", text, note=note) for i, text in enumerate(found)]
    digest = hashlib.sha256("\0".join(found).encode()).hexdigest()[:8]
    more = "first " if size >= MOST else ""
    return Dataset(_parts(documents), f"dataset {asked} ({more}{read} rows, sha256 {digest})")


def _parts(documents: list[Document]) -> dict[str, list[Document]]:
    """By document in turn; fewer than three documents are each cut in three."""
    parts: dict[str, list[Document]] = {"calibration": [], "development": [], "heldout": []}
    if len(documents) < 3:
        for document in documents:
            for name, found in thirds(document).items():
                parts[name] += found  # type: ignore[arg-type]
        return parts
    for document, name in zip(documents, itertools.cycle(TURN)):
        parts[name].append(document)
    return parts


def _rows(what: DatasetAddress) -> Iterable[dict[str, Any]]:
    try:
        import datasets
    except ImportError:
        raise BadSpec("the datasets library is not installed", where=OPTION, do="pip install datasets") from None
    path = Path(what.name).expanduser()
    reader, options = READERS.get(path.suffix.lower(), ("", {})) if path.is_file() else ("", {})
    if path.is_file() and not reader:
        raise BadSpec(
            f"no reader for a {path.suffix or 'nameless'} file",
            where=what.name,
            do=f"give one of {', '.join(READERS)}, or --text FILE",
        )
    if reader == "text":
        open_text(path)  # a table under that name is refused: its lines are no texts
    if reader and what.config not in ("", "default"):
        raise BadSpec(
            f"a file has no config, {what.config!r} means nothing for it",
            where=what.name,
            do=f"write {OPTION} {':'.join(filter(None, (what.name, what.split and f':{what.split}', what.field)))}",
        )
    for name in ("datasets", "huggingface_hub"):  # what they log of a fault or a try is said in the one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        if reader:
            found = datasets.load_dataset(reader, data_files=str(path), streaming=True, **options)
        else:
            found = datasets.load_dataset(
                str(path) if path.is_dir() else what.name, what.config or None, streaming=True
            )
    except Exception as error:
        raise _unreadable(what, error) from error
    splits = list(found)
    if what.split and what.split not in splits:
        raise BadSpec(f"no split {what.split!r}", where=what.name, do=f"choose one of {', '.join(splits)}")
    if not what.split and len(splits) > 1:
        raise BadSpec(
            f"it has the splits {', '.join(splits)}",
            where=what.name,
            do=f"name one: {OPTION} {what.name}:{what.config}:{splits[-1]}:{what.field}",
        )
    return found[what.split or splits[0]]


def _text(row: dict[str, Any], what: DatasetAddress, number: int) -> str:
    texts = [name for name, value in row.items() if isinstance(value, str)]
    if what.field not in row:
        raise BadSpec(
            f"no field {what.field!r}",
            where=what.name,
            do=f"choose one of {', '.join(texts)}" if texts else "give a dataset with a field of text",
        )
    value = row[what.field]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadSpec(
            f"the field {what.field!r} of row {number} holds {type(value).__name__}, not text",
            where=what.name,
            do=f"choose one of {', '.join(texts)}" if texts else "make it text in every row",
        )
    return value


def _unreadable(what: DatasetAddress, error: Exception) -> BadText:
    if isinstance(error, StopIteration):  # what its reader of JSON says of an empty file
        return BadText("it holds no rows", where=what.name, do="give a dataset with text in it")
    said = " ".join(str(error).split())[:200] or type(error).__name__
    here = Path(what.name).expanduser().exists()
    return BadText(
        f"cannot be read ({said})",
        where=what.name,
        do="check the file, or the config" if here else "check the name, the config and the connection",
    )
