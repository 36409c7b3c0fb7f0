"""Queue the evaluation of the tuned scales, or of none, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.session import manager
from pages.parts.work import rotating
from pages.parts.work.keys import origin, stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import evaluate
from qroar_core.errors import BadScales
from qroar_core.jobs import Manager
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results import Evaluation
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """The scales belong to the key by the search they came from, and the diagnosis its bounds came from."""
    return stage_key("evaluate", loaded, setting, setting.evaluation, *origin(setting, outcome))


def result(loaded: LoadedModel, setting: Setting, outcome: Any) -> Evaluation | None:
    """The finished evaluation, if there is one."""
    return manager().result(key(loaded, setting, outcome))


def start(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """Queue the evaluation, behind the search under the rotation where one is asked for; returns its key."""
    second = rotating.start(loaded, setting) if setting.evaluation.rotation_scales else None
    mine = key(loaded, setting, outcome)
    submit(mine, _evaluate, loaded, setting, outcome, manager(), second, label=f"Evaluate {loaded.name}")
    return mine


def _evaluate(loaded: LoadedModel, setting: Setting, outcome: Any, jobs: Manager, second: tuple | None,
              on_step: OnStep) -> Any:  # fmt: skip
    tuned, smooth = (outcome.found, outcome.smooth) if outcome else (None, None)
    turned = jobs.result(second) if second is not None else None
    if second is not None and turned is None:
        raise BadScales("the search under the rotation did not finish", where="evaluate", do="start it again")
    heldout = texts(setting)["heldout"]
    return evaluate.run(loaded, setting.rope, setting.quant, tuned, smooth, setting.evaluation, heldout,
                        on_step=on_step, rotation_tuned=turned.found if turned else None)  # fmt: skip
