"""What `--format` may say, found by themselves: one file a writer, each with its formats by name.

A file names formats in its `FORMATS`; the module of `exporters` with the file's name writes them by `run`. Where it
writes any loaded model, its `offered(loaded)` says None of one that cannot be written so, or else what a menu adds.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from qroar_core.exporters.format import Format
from qroar_core.members import names_in

WRITERS = names_in(Path(__file__).parent)
_OF: dict[str, dict[str, Format]] = {one: import_module(f"{__name__}.{one}").FORMATS for one in WRITERS}
FORMATS: dict[str, Format] = dict(
    sorted(((name, format) for formats in _OF.values() for name, format in formats.items()), key=lambda it: it[1].place)
)


def writer_name(format: str) -> str:
    """The module of `exporters` that writes this format."""
    return next(writer for writer, formats in _OF.items() if format in formats)


def written_by(writer: str) -> tuple[str, ...]:
    """Names of the formats that a module of `exporters` writes, in the order of menus."""
    return tuple(name for name in FORMATS if name in _OF[writer])
