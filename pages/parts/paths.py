"""Paths a visitor can type stay inside a few folders.

The home folder, the folder the dashboard was started in and the system's temporary folder; QROAR_ROOTS
(folders joined by the system's path separator) replaces all three.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from qroar_core.errors import QRoarError
from qroar_core.models.typed import hub_model


class OutsideRoots(QRoarError):
    """A path that leads out of the folders the dashboard may touch."""


def roots() -> tuple[Path, ...]:
    """The folders, resolved."""
    given = os.environ.get("QROAR_ROOTS")
    names = given.split(os.pathsep) if given else [str(Path.home()), os.getcwd(), tempfile.gettempdir()]
    return tuple(Path(name).expanduser().resolve() for name in names if name)


def model_source(typed: str) -> str:
    """What may be loaded: demo, smollm2, a name on the hub, or a path inside the roots. Addresses are asked too.

    Raises:
        OutsideRoots: a path outside every root.
    """
    if typed in ("demo", "smollm2"):
        return typed
    if hub_model(typed) is not None and not os.path.exists(typed):
        return typed
    return str(confined(typed))


def confined(typed: str) -> Path:
    """The typed path, absolute, links followed.

    Raises:
        OutsideRoots: empty, not a path, or outside every root.
    """
    try:
        path = Path(typed.strip()).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise OutsideRoots("not a path", where=typed[:80]) from error
    if not typed.strip():
        raise OutsideRoots("no path given", do="type a folder")
    if not any(path.is_relative_to(root) for root in roots()):
        raise OutsideRoots(
            "outside the folders this dashboard may touch",
            where=str(path),
            do=f"choose one below {', '.join(map(str, roots()))}, or start it with QROAR_ROOTS set",
        )
    return path
