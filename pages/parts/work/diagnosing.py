"""Queue the diagnosis and find it again."""

from __future__ import annotations

from pages.parts.session import manager
from pages.parts.work.keys import stage_key
from qroar_core import diagnose
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import split
from qroar_core.progress import OnStep
from qroar_core.results import Diagnosis
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting) -> tuple:
    """The diagnosis of this model under this setting."""
    return stage_key("diagnose", loaded, setting, setting.diagnosis)


def result(loaded: LoadedModel, setting: Setting) -> Diagnosis | None:
    """The finished diagnosis, if there is one."""
    return manager().result(key(loaded, setting))


def start(loaded: LoadedModel, setting: Setting) -> tuple:
    """Queue the diagnosis unless it is there already; returns its key."""
    mine = key(loaded, setting)
    manager().submit(mine, _diagnose, loaded, setting, label=f"Diagnose {loaded.name}", device=str(loaded.device))
    return mine


def _diagnose(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Diagnosis:
    return diagnose.run(loaded, setting.rope, setting.quant, setting.diagnosis, split("calibration"), on_step=on_step)
