"""Queue the controls beside the tuned scales, and find them again."""

from __future__ import annotations

from typing import Any

from pages.parts.work import diagnosing
from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results.controls import Controls
from qroar_core.runs import evidence
from qroar_core.runs.setting import Setting
from qroar_core.specs import ControlSpec


def key(loaded: LoadedModel, setting: Setting, spec: ControlSpec) -> tuple:
    """The scales belong to the key by the search they came from, and the diagnosis its bounds came from."""
    return stage_key("controls", loaded, setting, spec, setting.search, setting.diagnosis)


def start(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ControlSpec) -> None:
    """Queue the controls of a finished search, the other searches they need included."""
    submit(key(loaded, setting, spec), _control, loaded, setting, outcome, spec, diagnosing.result(loaded, setting),
           label=f"Controls with {loaded.name}")  # fmt: skip


def _control(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ControlSpec, diagnosis: Any,
             on_step: OnStep) -> Controls:  # fmt: skip
    return evidence.control(loaded, setting, outcome.found, spec, texts(setting), diagnosis, on_step=on_step)
