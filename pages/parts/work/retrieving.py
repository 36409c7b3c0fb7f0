"""Queue the retrieval of hidden numbers under every condition, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.elsewhere import result_of
from pages.parts.work.keys import origin, stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import retrieve
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results.retrieval import Retrieval
from qroar_core.runs.setting import Setting
from qroar_core.specs import RetrievalSpec


def key(loaded: LoadedModel, setting: Setting, outcome: Any, spec: RetrievalSpec) -> tuple:
    """The scales belong to the key by the search they came from, and the diagnosis its bounds came from."""
    return stage_key("retrieve", loaded, setting, spec, *origin(setting, outcome))


def result(loaded: LoadedModel, setting: Setting, outcome: Any, spec: RetrievalSpec) -> Retrieval | None:
    """The finished retrieval, if there is one."""
    return result_of(key(loaded, setting, outcome, spec))


def start(loaded: LoadedModel, setting: Setting, outcome: Any, spec: RetrievalSpec) -> tuple:
    """Queue the retrieval unless it is there already; returns its key."""
    mine = key(loaded, setting, outcome, spec)
    submit(mine, _retrieve, loaded, setting, outcome, spec, label=f"Retrieval with {loaded.name}")
    return mine


def _retrieve(loaded: LoadedModel, setting: Setting, outcome: Any, spec: RetrievalSpec, on_step: OnStep) -> Retrieval:
    scales = outcome.found if outcome else None
    return retrieve.run(loaded, setting.rope, setting.quant, scales, spec, texts(setting)["heldout"], on_step=on_step)
