"""Queue the search behind the diagnosis its bounds come from, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.session import manager
from pages.parts.work import diagnosing
from pages.parts.work.keys import stage_key
from qroar_core import search
from qroar_core.jobs import Manager
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, split
from qroar_core.progress import OnStep
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting) -> tuple:
    """The search under this setting; its diagnosis belongs to it, for the bounds."""
    return stage_key("search", loaded, setting, setting.search, setting.diagnosis)


def result(loaded: LoadedModel, setting: Setting) -> Any:
    """The finished search's outcome, if there is one."""
    return manager().result(key(loaded, setting))


def start(loaded: LoadedModel, setting: Setting) -> tuple:
    """Queue the search behind its diagnosis; returns its key."""
    diagnosis = diagnosing.start(loaded, setting)
    mine = key(loaded, setting)
    label, device = f"Tune {loaded.name}", str(loaded.device)
    manager().submit(mine, _search, manager(), diagnosis, loaded, setting, label=label, device=device)
    return mine


def _search(jobs: Manager, diagnosis: tuple, loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Any:
    texts = {name: split(name) for name in SPLITS}
    found = jobs.result(diagnosis)
    return search.run(loaded, setting.rope, setting.quant, setting.search, texts, found, on_step=on_step)
