"""Paths a visitor can type stay inside a few folders.

The home folder, the folder the dashboard was started in and the system's temporary folder; QROAR_ROOTS
(folders joined by the system's path separator) replaces all three.
An address is not a path, and is refused as one.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from qroar_core.errors import QRoarError
from qroar_core.models.model_argument import hub_model

ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/{2,}.*", re.DOTALL)
LONGEST = 255  # bytes of one name, on the file systems of today
PATH_CHARACTERS = 80  # characters of a path in a refusal


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
    _require_path(typed.strip())
    try:
        path = Path(typed.strip()).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise OutsideRoots("not a path", where=_short(typed)) from error
    if not typed.strip():
        raise OutsideRoots("no path given", do="type a folder")
    if not any(path.is_relative_to(root) for root in roots()):
        raise OutsideRoots(
            "outside the folders this dashboard may touch",
            where=_short(path),
            do=f"choose one below {', '.join(map(str, roots()))}, or start it with QROAR_ROOTS set",
        )
    return path


def _require_path(typed: str) -> None:
    """Refuse an address, and a name that no disk takes: each would fail later, in words that explain nothing."""
    if ADDRESS.fullmatch(typed):
        raise OutsideRoots("an address, not a path on this machine", where=_short(typed), do="type the path alone")
    longest = max(Path(typed).parts, key=_size, default="")
    if _size(longest) > LONGEST:
        raise OutsideRoots(
            f"a name of {len(longest):,} characters, more than a disk takes ({LONGEST} bytes)",
            where=_short(longest),
            do="choose a shorter one",
        )


def _size(name: str) -> int:
    return len(name.encode(errors="surrogatepass"))


def _short(path: object) -> str:
    words = str(path)
    return words if len(words) <= PATH_CHARACTERS else f"{words[:PATH_CHARACTERS]}…"
