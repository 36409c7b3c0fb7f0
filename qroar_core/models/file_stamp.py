"""Which files a checkpoint was read from, and what they were then: the same place may hold another model by now."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from qroar_core.models.tokenizer import tokenizer_files

STAMPED_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
Stamp = tuple[tuple[str, int, int], ...]


def stamp_of(folder: Path | None, file: Path | None = None) -> Stamp:
    """Path, time of change in nanoseconds and size of every file that a model is read from.

    Args:
        folder: holds config.json, weights and tokenizer. file: a GGUF file, which then holds all of it.
    """
    if file is not None:
        files = [file]
    elif folder is not None:
        files = [*tokenizer_files(folder), *(path for name in STAMPED_FILES for path in folder.glob(name))]
    else:
        files = []
    return stamps(files)


def stamps(files: Iterable[Path]) -> Stamp:
    """Path, time of change in nanoseconds and size of each of these files that is there."""
    found = []
    for path in sorted(set(files)):
        try:
            stat = path.stat()
        except OSError:
            continue  # gone: the stamp is another one without it
        found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)
