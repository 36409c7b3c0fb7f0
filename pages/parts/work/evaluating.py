"""Queue the evaluation of the tuned scales, or of none, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.session import manager
from pages.parts.work.keys import stage_key
from qroar_core import evaluate
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import split
from qroar_core.progress import OnStep
from qroar_core.results import Evaluation
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """The scales belong to the key by the search they came from."""
    return stage_key("evaluate", loaded, setting, setting.evaluation, setting.search if outcome else None)


def result(loaded: LoadedModel, setting: Setting, outcome: Any) -> Evaluation | None:
    """The finished evaluation, if there is one."""
    return manager().result(key(loaded, setting, outcome))


def start(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """Queue the evaluation unless it is there already; returns its key."""
    mine = key(loaded, setting, outcome)
    label, device = f"Evaluate {loaded.name}", str(loaded.device)
    manager().submit(mine, _evaluate, loaded, setting, outcome, label=label, device=device)
    return mine


def _evaluate(loaded: LoadedModel, setting: Setting, outcome: Any, on_step: OnStep) -> Any:
    tuned, smooth = (outcome.found, outcome.smooth) if outcome else (None, None)
    return evaluate.run(loaded, setting.rope, setting.quant, tuned, smooth, setting.evaluation, split("heldout"),
                        on_step=on_step)  # fmt: skip
