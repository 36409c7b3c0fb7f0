"""Stage 5: the scaled model as a folder that plain transformers (and vLLM) load unchanged.

The scales are multiplied into W_Q and W_K (and their biases), the position interpolation is written
into config.json, the tokenizer goes along, and `qroar.json` and the model card say what was changed.
"""

from __future__ import annotations

from pathlib import Path

import torch

from qroar_core.errors import BadSpec
from qroar_core.exporters.card import write_card
from qroar_core.exporters.checkpoint import all_narrowed, changed_parts, save
from qroar_core.exporters.folder import new_folder, note_of, origin_of, write_note
from qroar_core.exporters.formats import written_by
from qroar_core.exporters.forward_pass import require_finite_pass
from qroar_core.exporters.written_rope import written_gains, written_parameters, written_rope
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import announced_dtype, word, written_dtype
from qroar_core.models.patch import replaced_parameters
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.specs import RopeSpec
from qroar_core.transforms.scales import Scales


def run(
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    folder: Path | str,
    *,
    format: str = "hf",
    dtype: torch.dtype | None = None,
    command: str = "",
    on_step: OnStep = no_progress,
) -> Path:
    """Write the checkpoint; returns its folder. `scales` None exports the interpolation alone.

    Args:
        dtype: the number format that was asked for; None keeps that of the checkpoint's files, where what is loaded
            holds it.
        command: the line that repeats it, kept in qroar.json.
    Raises:
        BadOutput: the folder exists, or cannot be written.
        NonFinite: the model's own numbers overflow, or a weight leaves the format it is written in.
        BadSpec: an unknown format, or an interpolation this family's config cannot say.
    """
    if format not in (mine := written_by("hf")):
        raise BadSpec(f"unknown format {format!r}", where="--format", do=f"choose one of {', '.join(mine)}")
    said = written_rope(loaded, rope)
    folder = Path(folder).expanduser()
    on_step(Step("export", 0, 3, "scale weights"))
    written, why = written_dtype(loaded, dtype)
    changed = [] if written_gains(loaded.geometry, scales, said.factor) is None else changed_parts(loaded)
    with new_folder(folder, sum(p.numel() for p in loaded.model.parameters()) * written.itemsize) as built:
        require_finite_pass(loaded, rope, scales)
        with loaded.lock, replaced_parameters(loaded.model, written_parameters(loaded, scales, said.factor)):
            on_step(Step("export", 1, 3, "write weights"))
            tensors = None if written == loaded.dtype else all_narrowed(loaded.model, written)
            save(loaded, said, built, tensors, {"dtype": word(announced_dtype(loaded, written, dtype))})
        on_step(Step("export", 2, 3, "write tokenizer and manifest"))
        note = note_of(
            origin_of(loaded, rope),
            rope,
            scales,
            format=format,
            command=command,
            changed=changed,
            dtype=why,
            factor=said.factor,
        )
        write_card(built, note, loaded.template)
        write_note(built, note)
    on_step(Step("export", 3, 3, "done"))
    return folder


def offered(loaded: LoadedModel) -> str | None:
    """Every model has a folder."""
    return ""
