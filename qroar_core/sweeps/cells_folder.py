"""The folder of cells that a person names: local, or mounted. In an object store nothing can be claimed."""

from __future__ import annotations

import re
from pathlib import Path

from qroar_core.errors import BadSpec

URL = re.compile(r"[a-z][a-z0-9+.-]+:/")


def cells_folder(where: str, given: str | Path | None) -> Path | None:
    """The path; None where none is named.

    Raises:
        BadSpec: a URL.
    """
    if not given:
        return None
    if URL.match(str(given)):
        do = "mount it, or name a folder that all machines share"
        raise BadSpec(f"{given} is a URL, not a folder", where=where, do=do)
    return Path(given).expanduser()
