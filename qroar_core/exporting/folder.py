"""A folder that appears whole or not at all, with a note of its own hashes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qroar_core.errors import BadOutput
from qroar_core.models.gguf_file import sha256

NOTE = "qroar.json"


@contextmanager
def new_folder(folder: Path, need_bytes: int) -> Iterator[Path]:
    """Build in a scratch folder beside `folder`; it takes the name when the block ends without an error.

    Raises:
        BadOutput: the folder exists, the disk lacks `need_bytes`, or a write fails.
    """
    if folder.exists():
        raise BadOutput("already exists", where=str(folder), do="choose a new folder; nothing is ever overwritten")
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < need_bytes:
            raise BadOutput(
                f"needs {need_bytes / 2**20:.0f} MiB, the disk has {free / 2**20:.0f} MiB left",
                where=str(folder),
                do="free some room or choose another folder",
            )
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        yield scratch
        scratch.chmod(0o755)
        os.replace(scratch, folder)
        scratch = None
    except OSError as error:
        raise BadOutput(
            error.strerror or str(error), where=str(folder), do="free some room or choose another folder"
        ) from error
    finally:  # also after a Ctrl-C
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def write_note(folder: Path, content: dict[str, Any]) -> None:
    """qroar.json: what was made of what, and the size and SHA-256 of every file beside it."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NOTE
    }
    text = json.dumps(content | {"files": files}, indent=1) + "\n"
    (folder / NOTE).write_text(text, encoding="utf-8")
