"""Where a cell lies: a folder named by everything that decides its numbers, so that none is computed twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from qroar_core.disk_name import disk_name
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.stage_files import SPECS, plain
from qroar_core.setting import Setting
from qroar_core.sweeps.cells_folder import cells_folder

FORMULAS = 2  # raised with any change of the code after which a cell comes out with other numbers


def cells_root() -> Path:
    """Where cells are kept for all sweeps; QROAR_CELLS overrides it, for example with a folder that machines share."""
    given = os.environ.get("QROAR_CELLS")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return cells_folder("QROAR_CELLS", given) or data / "qroar" / "cells"


def address(loaded: LoadedModel, setting: Setting, text: str, measured: str) -> str:
    """Name of a cell's folder: the model for people, and a digest of what decides its numbers.

    Args:
        text: digest of the documents.
        measured: under the setting, where that does not say it: a remedy, or a kind of evaluation.
    """
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", loaded.name).strip(".-") or "model"
    return f"{disk_name(model, 60)}-{digest(loaded, setting, text, tuple(SPECS.values()), measured)}"


def diagnosis_digest(loaded: LoadedModel, setting: Setting, text: str) -> str:
    """What decides the numbers of a diagnosis."""
    return digest(loaded, setting, text, ("rope", "quant", "diagnosis"), "")


def digest(loaded: LoadedModel, setting: Setting, text: str, specs: tuple[str, ...], measured: str) -> str:
    """20 hex digits of the formulas' version, the model, its number format, the text and these specs."""
    who = [FORMULAS, loaded.checksum, str(loaded.dtype), setting.reading, text, measured]
    said = json.dumps([*who, *(plain(getattr(setting, name)) for name in specs)])
    return hashlib.sha256(said.encode()).hexdigest()[:20]
