"""Queue writing a folder in a format that a runtime loads."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pages.state.job_key import stage_key
from pages.state.session import asked_here, manager
from qroar_core.cli.reproduce import export_command
from qroar_core.exporters import w4a16
from qroar_core.exporters.cache_scales import reads_scales
from qroar_core.exporters.folder import NOTE
from qroar_core.exporters.formats import FORMATS
from qroar_core.exporters.writers import cache_scales_of, writer_of
from qroar_core.job import JobKey
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_dtype import DTYPES
from qroar_core.models.writable import require_writable_folder
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec
from qroar_core.specs.labels import setting_words
from qroar_core.transforms.scales import Scales


def key(
    loaded: LoadedModel, setting: Setting, scales: Scales | None, folder: Path, format: str, dtype: str
) -> JobKey[Written]:
    """All that decides what is written and where: another choice of any of it is another export."""
    values = None if scales is None else scales.digest
    return JobKey((*stage_key("export", loaded, setting), setting, values, format, dtype, str(folder)))


class Written(NamedTuple):
    """What an export wrote: the folder, and the SHA-256 of its note, which has the hash of every file beside it."""

    folder: Path
    note: str

    @property
    def stands(self) -> bool:
        """Is that still what lies there? Somebody else may have written there since."""
        return note_digest(self.folder) == self.note


def note_digest(folder: Path) -> str:
    """SHA-256 of the folder's qroar.json; "" where there is none."""
    try:
        return hashlib.sha256((folder / NOTE).read_bytes()).hexdigest()
    except OSError:
        return ""


def elsewhere(key: JobKey[Written]) -> JobKey[Written] | None:
    """The newest export like this one, into whichever folder: asked by somebody else, or here before a reload."""
    alike = (other for other in reversed(manager().keys()) if isinstance(other, tuple) and other[:-1] == key[:-1])
    return next((JobKey(other) for other in alike if _lives(other)), None)


def _lives(key: Hashable) -> bool:
    now = manager().snapshot(key)
    return now is not None and now.state in ("queued", "running", "done")


def folder_of(key: JobKey[Written]) -> Path:
    """Where the export of this key writes to."""
    return Path(str(key[-1]))


def start(
    loaded: LoadedModel, setting: Setting, scales: Scales | None, folder: Path, format: str = "hf", dtype: str = "auto"
) -> JobKey[Written]:
    """Queue writing the folder; returns its key. The same folder can be asked again.

    `dtype` is what the person chose to load in; `auto` keeps the checkpoint's own number format. Its note
    says the command that repeats it, with the scales.json that the page offers beside it.

    Raises:
        BadOutput: the folder cannot be written.
    """
    require_writable_folder(folder)  # before the weights are scaled and packed
    mine = key(loaded, setting, scales, folder, format, dtype)
    file = None if scales is None or scales.is_identity else "scales.json"
    asked_here().add(mine)  # first: behind the start of a job nothing ends a run
    command = export_command(loaded, setting, format, str(folder), file)
    manager().submit(
        mine,
        partial(_write, setting, format, dtype, command=command),
        loaded,
        setting.rope,
        scales,
        folder,
        label=f"Export {loaded.name}",
        device=str(loaded.device),
        again=True,
        about=f"{setting_words(setting.rope, setting.quant)}, {setting.search.length} tokens, {format} into {folder}",
    )
    return mine


def _write(
    setting: Setting,
    format: str,
    dtype: str,
    loaded: LoadedModel,
    rope: RopeSpec,
    scales: Scales | None,
    folder: Path,
    **named: Any,
) -> Written:
    groups, found = w4a16.group_sizes(loaded)[0] if FORMATS[format].takes_group_size else None, None
    if reads_scales(setting.quant, format):
        texts, length = setting.texts()["calibration"], setting.search.length or 0
        found = cache_scales_of(format, loaded, rope, scales, texts, length, group_size=groups)
    write = writer_of(format, group_size=groups, dtype=DTYPES.get(dtype), cache_scales=found)
    folder = write(loaded, rope, scales, folder, **named)
    return Written(folder, note_digest(folder))
