"""What `export` and `verify` do beyond the plain Hugging Face folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qroar_core.cli import show
from qroar_core.errors import BadSpec
from qroar_core.exporting import gguf_write, quantized_copy
from qroar_core.specs import RopeSpec

COPY_FORMATS = ("gguf",)  # a finished file with only its scales edited; nothing is loaded
MORE_FORMATS = (*COPY_FORMATS, *gguf_write.FORMATS, *quantized_copy.FORMATS)


def writer_of(format: str) -> Callable[..., Path] | None:
    """The writer of a format that is not the plain Hugging Face folder."""
    return next((stage.run for stage in (gguf_write, quantized_copy) if format in stage.FORMATS), None)


def repeats(options: dict[str, Any]) -> str:
    """The line that repeats this command."""
    return "python -m qroar_core " + shlex.join(options["arguments"] or [])


def copy(options: dict[str, Any], rope: RopeSpec | None) -> Path:
    """`export FILE.gguf --format gguf`: the file's own codes, scaled.

    Raises:
        BadSpec: MODEL is no GGUF file, or there is nothing to change.
    """
    from qroar_core.exporting import gguf_copy
    from qroar_core.models.formats.gguf_source import gguf_of

    source = gguf_of(options["model"])
    if source is None:
        raise BadSpec(
            f"{options['model']} is no .gguf file",
            where="--format gguf",
            do=f"choose one of {', '.join(gguf_write.FORMATS)}",
        )
    if not options.get("scales") and rope is None:
        raise BadSpec("nothing to change", where="--format gguf", do="add --scales FILE, or --rope and --factor")
    with show.progress() as on_step:
        return gguf_copy.run(
            source, options.get("scales"), rope, options["out"], command=repeats(options), on_step=on_step
        )
