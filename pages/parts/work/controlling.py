"""Queue the controls beside the tuned scales, and find them again."""

from __future__ import annotations

from typing import Any

from pages.parts.work import diagnosing
from pages.parts.work.keys import origin, stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results import Diagnosis
from qroar_core.results.controls import Controls
from qroar_core.runs import evidence
from qroar_core.runs.setting import Setting
from qroar_core.specs import ControlSpec


def key(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ControlSpec) -> tuple:
    """The scales belong to the key, with the search they came from and the diagnosis its bounds came from."""
    return stage_key("controls", loaded, setting, spec, *origin(setting, outcome))


def start(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ControlSpec) -> None:
    """Queue the controls of a finished search behind its diagnosis, the other searches they need included."""
    first = diagnosing.start(loaded, setting)
    submit(key(loaded, setting, outcome, spec), _control, loaded, setting, outcome, spec,
           label=f"Controls with {loaded.name}", needs=(first,))  # fmt: skip


def _control(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ControlSpec, diagnosis: Diagnosis,
             on_step: OnStep) -> Controls:  # fmt: skip
    return evidence.control(loaded, setting, outcome.found, spec, texts(setting), diagnosis, on_step=on_step)
