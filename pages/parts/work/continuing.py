"""Queue the continuation of one prompt under every condition, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.elsewhere import result_of
from pages.parts.work.keys import origin, stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import continuations
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results import Continuations
from qroar_core.runs.setting import Setting
from qroar_core.specs import ContinuationSpec

TOKENS = 48  # of a continuation, unless a person asks for another number


def held_out(setting: Setting, tokens: int | None = None) -> ContinuationSpec:
    """The continuation of a held-out window of the current length."""
    length = setting.search.length or setting.diagnosis.length or 2
    return ContinuationSpec(length=length, tokens=tokens or min(TOKENS, length // 2))


def key(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ContinuationSpec) -> tuple:
    """The prompt belongs to the key, and the search the scales came from."""
    return stage_key("continue", loaded, setting, spec, *origin(setting, outcome))


def result(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ContinuationSpec) -> Continuations | None:
    """The finished continuations, if they are there."""
    return result_of(key(loaded, setting, outcome, spec))


def start(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ContinuationSpec) -> tuple:
    """Queue the continuations unless they are there already; returns their key."""
    mine = key(loaded, setting, outcome, spec)
    submit(mine, _continue, loaded, setting, outcome, spec, label=f"Continue a prompt with {loaded.name}")
    return mine


def _continue(loaded: LoadedModel, setting: Setting, outcome: Any, spec: ContinuationSpec, on_step: OnStep) -> Any:
    tuned, smooth = (outcome.found, outcome.smooth) if outcome else (None, None)
    return continuations.run(loaded, setting.rope, setting.quant, tuned, smooth, spec, texts(setting)["heldout"],
                             on_step=on_step)  # fmt: skip
