"""Queue writing a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

from pages.parts.session import manager
from qroar_core import export
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.setting import Setting


def start(loaded: LoadedModel, setting: Setting, scales: Scales | None, folder: Path) -> tuple:
    """Queue writing the checkpoint folder; returns its key. The same folder can be asked again."""
    key = ("export", loaded.fingerprint, str(folder))
    manager().submit(
        key, export.run, loaded, setting.rope, scales, folder,
        label=f"Export {loaded.name}", device=str(loaded.device), again=True,
    )  # fmt: skip
    return key
