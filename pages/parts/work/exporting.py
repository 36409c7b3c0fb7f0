"""Queue writing a folder in a format that a runtime loads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pages.parts.session import manager
from pages.parts.work.keys import stage_key
from qroar_core import export
from qroar_core.cli.spelling import export_command
from qroar_core.exporting import gguf_write, w4a16
from qroar_core.exporting.formats import GGUF_WRITE, HF, W4A16
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.loading import DTYPES
from qroar_core.models.writable import require_writable_folder
from qroar_core.runs.setting import Setting

WHAT = {
    "gguf-f16": "GGUF F16: llama.cpp",
    "gguf-bf16": "GGUF BF16: llama.cpp",
    "gguf-q8_0": "GGUF Q8_0: llama.cpp, 8-bit weights",
    "gguf-q4_0": "GGUF Q4_0: llama.cpp, 4-bit weights",
}


def formats(loaded: LoadedModel) -> dict[str, str]:
    """What this model can be written as, by format, each with who loads it."""
    known = {HF[0]: "Hugging Face folder: transformers, vLLM"}
    if sizes := w4a16.group_sizes(loaded):
        known[W4A16[0]] = f"W4A16 folder, groups of {sizes[0]}: vLLM, transformers with compressed-tensors"
    return known | (WHAT if loaded.geometry.family in gguf_write.FAMILIES else {})


def key(loaded: LoadedModel, setting: Setting, scales: Scales | None, folder: Path, format: str, dtype: str) -> tuple:
    """All that decides what is written and where: another choice of any of it is another export."""
    values = None if scales is None else scales.digest
    return (*stage_key("export", loaded, setting), setting, values, format, dtype, str(folder))


def folder_of(key: tuple) -> Path:
    """Where the export of this key writes to."""
    return Path(key[-1])


def start(loaded: LoadedModel, setting: Setting, scales: Scales | None, folder: Path, format: str = "hf",
          dtype: str = "auto") -> tuple:  # fmt: skip
    """Queue writing the folder; returns its key. The same folder can be asked again.

    `dtype` is what the person chose to load in; `auto` keeps the checkpoint's own number format. Its note
    says the command that repeats it, with the scales.json that the page offers beside it.

    Raises:
        BadOutput: the folder cannot be written.
    """
    require_writable_folder(folder)  # before the weights are scaled and packed
    mine = key(loaded, setting, scales, folder, format, dtype)
    file = None if scales is None or scales.is_identity else "scales.json"
    command = export_command(loaded, setting, format, str(folder), file)
    manager().submit(
        mine, partial(_writer(loaded, format, dtype), command=command), loaded, setting.rope, scales, folder,
        label=f"Export {loaded.name}", device=str(loaded.device), again=True,
    )  # fmt: skip
    return mine


def _writer(loaded: LoadedModel, format: str, dtype: str) -> Callable[..., Path]:
    if format in W4A16:
        return partial(w4a16.run, group_size=w4a16.group_sizes(loaded)[0])
    if format in GGUF_WRITE:
        return partial(gguf_write.run, format=format)
    return partial(export.run, format=format, dtype=DTYPES.get(dtype))
