"""The user's cache folder: where fetched models and what is made from them lie."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qroar_core.errors import BadOutput

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cache_dir() -> Path:
    """The user's cache folder for fetched and converted models; QROAR_CACHE overrides it."""
    base = os.environ.get("QROAR_CACHE")
    if base:
        return Path(base).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "qroar"


def writable_cache(*parts: str) -> Path:
    """A folder of the cache, made where it is missing, after a trial file could be written there.

    Raises:
        BadOutput: the folder cannot be made or written.
    """
    folder = cache_dir().joinpath(*parts)
    with cache_errors():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    return folder


@contextmanager
def cache_errors() -> Iterator[None]:
    """Turn an operating system's error at the cache folder into one line that says what to do.

    Only errors that name a path in the cache, or none at all as a full disk's do, are taken for it.

    Raises:
        BadOutput: the cache cannot be made, written, or is on a full disk.
    """
    try:
        yield
    except OSError as error:
        named = [str(path) for path in (error.filename, error.filename2) if path is not None]
        root = cache_dir()
        ours = any(Path(name).is_relative_to(root) or root.is_relative_to(Path(name)) for name in named)
        if not ours and (named or error.errno not in FULL):
            raise
        raise unwritable(root, error) from error


def unwritable(folder: Path, error: OSError) -> BadOutput:
    """The one line for a cache folder that the operating system refuses."""
    if error.errno in FULL:
        what = "the disk of the cache folder is full"
        do = "free some room, or set QROAR_CACHE to a folder on a larger disk"
    else:
        what = f"the cache folder cannot be written ({error.strerror or type(error).__name__})"
        do = "set QROAR_CACHE to a folder that can be written"
    return BadOutput(what, where=str(folder), do=do)
