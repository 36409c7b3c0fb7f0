"""Can a folder be made and written to? Asked before the work whose result goes there, by trying."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from qroar_core.errors import BadOutput

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # as Path spells it, which makes one slash of two


def require_writable_folder(folder: Path) -> None:
    """Make and remove a file where `folder` is, or a folder in the nearest folder above it that exists.

    Raises:
        BadOutput: it cannot be made there, or not be written to, or is an address.
    """
    if ADDRESS.match(str(folder)):
        raise BadOutput("an address, not a path on this machine", where=str(folder), do="type the path alone")
    try:
        if folder.is_dir():
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
            return
        above = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        with tempfile.TemporaryDirectory(dir=above, prefix=".qroar-") as scratch:
            tried = Path(scratch)
            for name in folder.absolute().relative_to(above).parts:  # also names that the file system refuses
                tried = tried / name
                tried.mkdir()
            with tempfile.TemporaryFile(dir=tried) as file:
                file.write(b"x")
    except OSError as error:
        raise BadOutput(
            f"cannot be written ({error.strerror or error})", where=str(folder), do="choose another folder"
        ) from error
    except ValueError as error:  # a zero byte
        raise BadOutput("is no path", where=repr(str(folder)), do="choose another folder") from error
