"""Stage 5: the scaled model as a folder that plain transformers (and vLLM) load unchanged.

The scales are multiplied into W_Q and W_K (and their biases), the position interpolation is written
into config.json, the tokenizer goes along, and `qroar.json` says what was changed. The folder is
built beside its final place and moved there whole: a full disk or a cancel leaves nothing behind. A
killed process leaves its scratch folder, which names the process; the next export to that place sweeps it.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from qroar_core import __version__
from qroar_core.errors import BadOutput, BadSpec
from qroar_core.exporting.folder import write_note
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import replaced, scaled_parameters
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.rope import require_writable, rope_parameters
from qroar_core.models.scales_file import identity_of
from qroar_core.progress import OnStep, Step, ignore
from qroar_core.specs import RopeSpec

FORMATS = ("hf",)
OWNER = "qroar-export.json"  # in a scratch folder: which process builds what
STALE = 24 * 3600  # seconds after which a scratch folder nobody can be asked about is swept


def run(loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, folder: Path | str, *, format: str = "hf",
        command: str = "", on_step: OnStep = ignore) -> Path:  # fmt: skip
    """Write the checkpoint; returns its folder. `scales` None exports the interpolation alone.

    `command` is the line that repeats it, kept in qroar.json.

    Raises:
        BadOutput: the folder exists, or cannot be written.
        BadSpec: an unknown format, or an interpolation this family's config cannot say.
    """
    if format not in FORMATS:
        raise BadSpec(f"unknown format {format!r}", where="--format", do=f"choose one of {', '.join(FORMATS)}")
    require_writable(loaded.model.config, loaded.geometry, rope)
    folder = Path(folder).expanduser()
    if folder.exists():
        raise BadOutput("already exists", where=str(folder), do="choose a new folder; nothing is ever overwritten")
    on_step(Step("export", 0, 3, "scale weights"))
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _require_disk(loaded, folder)
        scratch = _scratch(folder)
        built = scratch / folder.name
        with loaded.lock, replaced(loaded.model, _weights(loaded, scales)):
            on_step(Step("export", 1, 3, "write weights"))
            _save(loaded, rope, built)
        on_step(Step("export", 2, 3, "write tokenizer and manifest"))
        _save_note(loaded, rope, scales, built, command)
        os.replace(built, folder)
    except OSError as error:
        raise BadOutput(
            error.strerror or str(error), where=str(folder), do="free some room or choose another folder"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    on_step(Step("export", 3, 3, "done"))
    return folder


def _scratch(folder: Path) -> Path:
    """A hidden folder beside `folder` that says whose it is; the checkpoint grows in a folder inside."""
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    owner = {"target": folder.name, "pid": os.getpid(), "host": socket.gethostname()}
    (scratch / OWNER).write_text(json.dumps(owner), encoding="utf-8")
    return scratch


def _sweep(folder: Path) -> None:
    """Remove what killed exports to `folder` left beside it. Folders without our mark are nobody's business."""
    for left in folder.parent.iterdir():
        mark = left / OWNER
        if left.name.startswith(f".{folder.name}-") and mark.is_file() and _abandoned(mark, folder.name):
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


def _weights(loaded: LoadedModel, scales: Scales | None) -> dict:
    """Parameters to write instead of the loaded ones: the checkpoint's own, then the scaled."""
    new = dict(loaded.originals)
    if scales is not None and not scales.is_identity:
        new |= scaled_parameters(loaded, scales)
    return new


def _require_disk(loaded: LoadedModel, folder: Path) -> None:
    need = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    free = shutil.disk_usage(folder.parent).free
    if free < need:
        raise BadOutput(
            f"needs {need / 2**20:.0f} MiB, the disk has {free / 2**20:.0f} MiB left",
            where=str(folder),
            do="free some room or choose another folder",
        )


def _save(loaded: LoadedModel, rope: RopeSpec, folder: Path) -> None:
    model = loaded.model
    before = model.config
    written = copy.deepcopy(before)
    written.rope_parameters = rope_parameters(before, loaded.geometry, rope)
    if rope.method != "default":
        native = rope.original_context or loaded.geometry.original_context
        # transformers' dynamic NTK reads its native window from this field; the others their promise
        written.max_position_embeddings = native if rope.method == "dynamic" else int(native * rope.factor)
        if hasattr(written, "original_max_position_embeddings"):  # Phi-3 says it here, too, and believes this one
            written.original_max_position_embeddings = native
    try:
        model.config = written
        with quiet_transformers():
            model.save_pretrained(folder, safe_serialization=True)
    finally:
        model.config = before
    loaded.tokenizer.save_pretrained(folder)


def _save_note(loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, folder: Path, command: str) -> None:
    note = {
        "made_by": f"qroar {__version__}",
        "format": "hf",
        "command": command,
        "source": loaded.source,
        "from": identity_of(loaded).model_dump(),
        "note": loaded.note,
        "rope": asdict(rope),
        "scales": None
        if scales is None
        else {
            "mode": scales.mode,
            "granularity": scales.granularity,
            "bands": scales.bands,
            "g": scales.nested(),
        },
        "changed": [] if scales is None or scales.is_identity else changed_parts(loaded),
    }
    write_note(folder, note)


def changed_parts(loaded: LoadedModel) -> list[str]:
    """The modules of an attention layer that scales change: projections, or the norms whose gains take the scale."""
    first = next(i for i in range(loaded.geometry.n_layers) if i not in loaded.geometry.without_rope)
    names = [slot.norm_gain or slot.weight for slot in loaded.slots()[first]]
    return list(dict.fromkeys(name.split(".")[-2] for name in names))
