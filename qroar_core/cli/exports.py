"""What `export` does beyond the plain Hugging Face folder. Writers are imported when they are asked for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import show
from qroar_core.errors import BadSpec
from qroar_core.exporting.formats import GGUF_WRITE, HF, QUANTIZED_COPY, W4A16
from qroar_core.specs import RopeSpec

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel


def writer_of(options: dict[str, Any]) -> Callable[..., Path]:
    """The writer of the asked format.

    Raises:
        BadSpec: --group-size with a format that has no groups to choose.
    """
    format, group_size, asked = options["format"], options.get("weight_group"), options.get("dtype", "auto")
    if format in W4A16:
        from qroar_core.exporting import w4a16

        return partial(w4a16.run, group_size=group_size)
    if group_size is not None:
        raise BadSpec(f"--format {format} has no group size", where="--group-size", do="drop it, or --format w4a16")
    if format in GGUF_WRITE:
        from qroar_core.exporting import gguf_write

        return gguf_write.run
    if format in QUANTIZED_COPY:
        from qroar_core.exporting import quantized_copy

        return quantized_copy.run
    from qroar_core import export
    from qroar_core.models.loading import DTYPES

    return partial(export.run, dtype=DTYPES.get(asked))


def tell_about(loaded: LoadedModel, rope: RopeSpec, options: dict[str, Any]) -> None:
    """Once it is written, say what an export changed unasked: the checkpoint's own interpolation, its number format."""
    from qroar_core.models.loading import DTYPES
    from qroar_core.models.own_dtype import own_dtype, written_dtype
    from qroar_core.models.own_rope import own_rope, replaced_rope

    _tell_rope(f"{rope.method} x{rope.factor:g}", own_rope(loaded), replaced_rope(loaded, rope))
    if options["format"] in HF:
        dtype, why = written_dtype(loaded, DTYPES.get(options["dtype"]))
        if dtype != own_dtype(loaded):
            show.note(f"weights were written as {why}")


def _tell_rope(rope: str, own: str, replaced: str) -> None:
    """Whether the interpolation that the checkpoint has itself was kept or replaced; nothing where it has none."""
    from qroar_core.models.own_rope import NONE

    if replaced:
        show.note(f"the checkpoint's own interpolation was replaced: {rope} replaces {replaced}")
    elif own != NONE:
        show.note(f"the checkpoint's own interpolation was kept: {own}")


def repeats(options: dict[str, Any]) -> str:
    """The line that repeats this command."""
    return "python -m qroar_core " + shlex.join(options["arguments"] or [])


def copy(options: dict[str, Any], rope: RopeSpec | None) -> Path:
    """`export FILE.gguf --format gguf`: the file's own codes, scaled.

    Raises:
        BadSpec: MODEL is no .gguf file, or there is nothing to change.
    """
    from qroar_core.models.formats.gguf_source import gguf_of

    with show.progress() as on_step:
        source = gguf_of(options["model"], on_step)
    if source is None:
        raise BadSpec(
            f"{options['model']} is no .gguf file",
            where="--format gguf",
            do=f"choose one of {', '.join(GGUF_WRITE)}",
        )
    if not options.get("scales") and rope is None:
        raise BadSpec("nothing to change", where="--format gguf", do="add --scales FILE, or --rope and --factor")
    from qroar_core.exporting import gguf_copy
    from qroar_core.exporting.folder import NOTE

    with show.progress() as on_step:
        folder = gguf_copy.run(
            source, options.get("scales"), rope, options["out"], command=repeats(options), on_step=on_step
        )
    note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    written = f"{note['rope']['method']} x{note['rope']['factor']:g}"
    _tell_rope(written, note["own_rope"], note["replaces"])
    return folder
