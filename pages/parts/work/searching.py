"""Queue the search behind the diagnosis its bounds come from, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.elsewhere import result_of
from pages.parts.session import manager
from pages.parts.work import diagnosing
from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import search
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results import Diagnosis
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting) -> tuple:
    """The search under this setting; its diagnosis belongs to it, for the bounds."""
    return stage_key("search", loaded, setting, setting.search, setting.diagnosis)


def result(loaded: LoadedModel, setting: Setting) -> Any:
    """The finished search's outcome, if there is one."""
    return result_of(key(loaded, setting))


def partial(loaded: LoadedModel, setting: Setting) -> Any:
    """What a cancelled search had found by then, if anything."""
    return manager().partial(key(loaded, setting))


def start(loaded: LoadedModel, setting: Setting, resume: Any = None) -> tuple:
    """Queue the search behind its diagnosis, or what `resume` (a `partial`) had left of it; returns its key."""
    diagnosis = diagnosing.start(loaded, setting)
    mine = key(loaded, setting)
    submit(mine, _search, loaded, setting, resume, label=f"Tune {loaded.name}", needs=(diagnosis,))
    return mine


def _search(loaded: LoadedModel, setting: Setting, resume: Any, diagnosis: Diagnosis, on_step: OnStep) -> Any:
    return search.run(loaded, setting.rope, setting.quant, setting.search, texts(setting), diagnosis, on_step=on_step,
                      resume=resume)  # fmt: skip
