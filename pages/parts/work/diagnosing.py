"""Queue the diagnosis, of the checkpoint's own weights or with scales in them, and find it again."""

from __future__ import annotations

from pages.parts.elsewhere import result_of
from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import diagnose
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results import Diagnosis
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting, scales: Scales | None = None) -> tuple:
    """The diagnosis of this model under this setting; scales belong to it by their values."""
    tuned = () if scales is None else (scales.digest,)
    return stage_key("diagnose", loaded, setting, setting.diagnosis, *tuned)


def result(loaded: LoadedModel, setting: Setting, scales: Scales | None = None) -> Diagnosis | None:
    """The finished diagnosis, if there is one."""
    return result_of(key(loaded, setting, scales))


def start(loaded: LoadedModel, setting: Setting, scales: Scales | None = None) -> tuple:
    """Queue the diagnosis unless it is there already; returns its key."""
    mine = key(loaded, setting, scales)
    what = f"Diagnose {loaded.name}" if scales is None else f"Diagnose {loaded.name} with scales"
    submit(mine, _diagnose, loaded, setting, scales, label=what)
    return mine


def _diagnose(loaded: LoadedModel, setting: Setting, scales: Scales | None, on_step: OnStep) -> Diagnosis:
    return diagnose.run(loaded, setting.rope, setting.quant, setting.diagnosis, texts(setting)["calibration"],
                        on_step=on_step, scales=scales)  # fmt: skip
