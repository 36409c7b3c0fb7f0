"""Stage 5: the scaled model as a folder that plain transformers (and vLLM) load unchanged.

The scales are multiplied into W_Q and W_K (and their biases), the position interpolation is written
into config.json, the tokenizer goes along, and `qroar.json` says what was changed. The folder is
built beside its final place and moved there whole: a full disk or a cancel leaves nothing behind.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from qroar_core import __version__
from qroar_core.errors import BadOutput, BadSpec
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import replaced, scaled_parameters
from qroar_core.models.quiet import quiet_transformers
from qroar_core.models.rope import rope_parameters
from qroar_core.models.scales_file import identity_of
from qroar_core.progress import OnStep, Step, ignore
from qroar_core.specs import RopeSpec

FORMATS = ("hf",)
NOTE = "qroar.json"


def run(loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, folder: Path | str, *, format: str = "hf",
        on_step: OnStep = ignore) -> Path:  # fmt: skip
    """Write the checkpoint; returns its folder. `scales` None exports the interpolation alone.

    Raises:
        BadOutput: the folder exists, or cannot be written.
        BadSpec: an unknown format.
    """
    if format not in FORMATS:
        raise BadSpec(f"unknown format {format!r}", where="--format", do=f"choose one of {', '.join(FORMATS)}")
    folder = Path(folder).expanduser()
    if folder.exists():
        raise BadOutput("already exists", where=str(folder), do="choose a new folder; nothing is ever overwritten")
    on_step(Step("export", 0, 3, "scale weights"))
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _require_disk(loaded, folder)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        with loaded.lock, replaced(loaded.model, _weights(loaded, scales)):
            on_step(Step("export", 1, 3, "write weights"))
            _save(loaded, rope, scratch)
        on_step(Step("export", 2, 3, "write tokenizer and manifest"))
        _save_note(loaded, rope, scales, scratch)
        scratch.chmod(0o755)
        os.replace(scratch, folder)
    except OSError as error:
        raise BadOutput(
            error.strerror or str(error), where=str(folder), do="free some room or choose another folder"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    on_step(Step("export", 3, 3, "done"))
    return folder


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
    try:
        model.config = written
        with quiet_transformers():
            model.save_pretrained(folder, safe_serialization=True)
    finally:
        model.config = before
    loaded.tokenizer.save_pretrained(folder)


def _save_note(loaded: LoadedModel, rope: RopeSpec, scales: Scales | None, folder: Path) -> None:
    note = {
        "made_by": f"qroar {__version__}",
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
        "changed": [] if scales is None or scales.is_identity else ["q_proj", "k_proj"],
    }
    (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
