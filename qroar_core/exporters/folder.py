"""A folder that appears whole or not at all, with a note of its own hashes.

It grows in a hidden folder beside its place, moved there at the end: a full disk or a cancel leaves nothing
behind. A killed process leaves its scratch folder, which names the process; the next export to that place sweeps it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from qroar_core.errors import BadOutput
from qroar_core.exporters.card import CARD, card_of
from qroar_core.exporters.readers import limits_of, recipes
from qroar_core.exporters.served import served_folder
from qroar_core.interpolations.spec import rope_of_block
from qroar_core.models.formats.digest import sha256
from qroar_core.models.own_rope import own_rope, replaced_rope
from qroar_core.specs import RopeSpec
from qroar_core.specs.written import written
from qroar_core.transforms.file import identity_of, tables_of
from qroar_core.transforms.scales import Scales
from qroar_core.version import VERSION

if TYPE_CHECKING:  # a GGUF file is copied without transformers
    from qroar_core.models.loaded import LoadedModel

NOTE = "qroar.json"
OWNER = "qroar-export.json"  # in a scratch folder: which process builds what
LONGEST_NAME = 200  # characters of a model's name in a file's: with the format behind it a disk takes it
STALE = 24 * 3600  # seconds after which a scratch folder nobody can be asked about is swept


@contextmanager
def new_folder(folder: Path, need_bytes: int) -> Iterator[Path]:
    """Build in the folder given; it takes the place of `folder` when the block ends without an error.

    Raises:
        BadOutput: the folder exists, the disk lacks `need_bytes`, or a write fails.
    """
    if folder.exists():
        raise BadOutput("already exists", where=str(folder), do="choose a new folder; nothing is ever overwritten")
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _require_disk(folder, need_bytes)
        scratch = _scratch(folder)
        built = scratch / folder.name
        built.mkdir()
        yield built
        _readable_as_any(built, scratch / OWNER)
        os.replace(built, folder)
    except (OSError, SafetensorError) as error:  # safetensors writes by itself and raises its own
        raise BadOutput(
            getattr(error, "strerror", None) or str(error),
            where=str(folder),
            do="free some room or choose another folder",
        ) from error
    finally:  # also after a Ctrl-C
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _require_disk(folder: Path, need_bytes: int) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < need_bytes:
        raise BadOutput(
            f"needs {need_bytes / 2**20:.0f} MiB, the disk has {free / 2**20:.0f} MiB left",
            where=str(folder),
            do="free some room or choose another folder",
        )


def _scratch(folder: Path) -> Path:
    """A hidden folder beside `folder` that says whose it is; the export grows in a folder inside."""
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
    owner = {"target": folder.name, "pid": os.getpid(), "host": socket.gethostname()}
    (scratch / OWNER).write_text(json.dumps(owner), encoding="utf-8")
    return scratch


def _readable_as_any(built: Path, plain: Path) -> None:
    """Give every file the mode of `plain`, which the umask made: safetensors lets no one but the owner read its own."""
    mode = stat.S_IMODE(plain.stat().st_mode)
    for path in built.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _prefix(folder: Path) -> str:
    """How scratch folders begin; a long name is cut, so that what is added to it still makes a name."""
    return f".{folder.name[:40]}-"


def _sweep(folder: Path) -> None:
    """Remove what killed exports to `folder` left beside it. Folders without our mark are nobody's business."""
    for left in folder.parent.iterdir():
        mark = left / OWNER
        if left.name.startswith(_prefix(folder)) and mark.is_file() and _abandoned(mark, folder.name):
            shutil.rmtree(left, ignore_errors=True)


def _abandoned(mark: Path, target: str) -> bool:
    """Did the process that made this mark die? One on another host, or a reused pid, counts as alive for a day."""
    try:
        owner = json.loads(mark.read_text(encoding="utf-8"))
        stale = time.time() - mark.stat().st_mtime > STALE
        if not isinstance(owner, dict) or owner.get("target") != target:
            return False
        return stale or (owner.get("host") == socket.gethostname() and not _alive(int(owner["pid"])))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end it there: the age decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_about(folder: Path, note: dict[str, Any], before: Path | None) -> None:
    """What a folder says of itself: README.md, then qroar.json with the hash of every file.

    Args:
        note: see `note_of`. before: folder of the source checkpoint, whose card goes on; None where it has none.
    """
    served = served_folder(folder, note, rope_of_block(note["rope"]))
    beside = Path(folder.name, *served.path.relative_to(folder).parts)
    known = recipes(replace(served, path=beside))
    card = card_of(note, before, limits_of(served.export), known, served.export.context_words)
    (folder / CARD).write_text(card, encoding="utf-8")
    write_note(folder, note)


def write_note(folder: Path, content: dict[str, Any]) -> None:
    """qroar.json: `content` (see `note_of`), and the size and SHA-256 of every file beside it."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NOTE
    }
    text = json.dumps(content | {"files": files}, indent=1) + "\n"
    (folder / NOTE).write_text(text, encoding="utf-8")


def note_of(
    origin: dict[str, Any],
    rope: RopeSpec,
    scales: Scales | None,
    *,
    format: str,
    command: str,
    changed: list[str],
    mixed: Sequence[str] = (),
    dtype: str = "",
    factor: float = 1.0,
    bias: Sequence[str] = (),
) -> dict[str, Any]:
    """What was made of what.

    Args:
        origin: see `origin_of`. changed: names of what scales and `factor` changed.
        mixed: names of what value maps changed.
        bias: names of what has an offset of K in its bias.
        dtype: see models.own_dtype.written_dtype. factor: see exporters.written_rope.WrittenRope.
    """
    return {
        "made_by": f"qroar {VERSION}",
        "format": format,
        "command": command,
        **origin,
        "rope": written(rope),
        "scales": None
        if scales is None
        else {
            "mode": scales.mode,
            "granularity": scales.granularity,
            "bands": scales.bands,
            "g": scales.nested(),
            **tables_of(scales),
        },
        "changed": changed,
        **({"mixed": list(mixed)} if mixed else {}),
        **({"dtype": dtype} if dtype else {}),
        **({"factor": factor} if factor != 1 else {}),
        **({"bias": list(bias)} if bias else {}),
    }


def origin_of(loaded: LoadedModel, rope: RopeSpec) -> dict[str, Any]:
    """Where a loaded model came from, who it is, its own interpolation and whether `rope` takes its place."""
    file = {} if loaded.file is None else {"file": str(loaded.file.absolute())}
    return {
        "source": loaded.source,
        **file,
        "from": identity_of(loaded).model_dump(),
        "note": loaded.note,
        "own_rope": own_rope(loaded),
        "replaces": replaced_rope(loaded, rope),
    }
