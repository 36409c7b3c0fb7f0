"""Queue the evaluation of the tuned scales, or of none, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.elsewhere import result_of
from pages.parts.work import rotating
from pages.parts.work.keys import origin, stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import evaluate
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results import Evaluation
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """The scales belong to the key by the search they came from, and the diagnosis its bounds came from."""
    return stage_key("evaluate", loaded, setting, setting.evaluation, *origin(setting, outcome))


def result(loaded: LoadedModel, setting: Setting, outcome: Any) -> Evaluation | None:
    """The finished evaluation, if there is one."""
    return result_of(key(loaded, setting, outcome))


def start(loaded: LoadedModel, setting: Setting, outcome: Any) -> tuple:
    """Queue the evaluation, behind the search under the rotation where one is asked for; returns its key."""
    second = (rotating.start(loaded, setting),) if setting.evaluation.rotation_scales else ()
    mine = key(loaded, setting, outcome)
    submit(mine, _evaluate, loaded, setting, outcome, label=f"Evaluate {loaded.name}", needs=second)
    return mine


def _evaluate(loaded: LoadedModel, setting: Setting, outcome: Any, rotated: Any = None, *, on_step: OnStep) -> Any:
    """`rotated`: the outcome of the search under the rotation, where the evaluation asks for one."""
    tuned, smooth = (outcome.found, outcome.smooth) if outcome else (None, None)
    heldout = texts(setting)["heldout"]
    return evaluate.run(loaded, setting.rope, setting.quant, tuned, smooth, setting.evaluation, heldout,
                        on_step=on_step, rotation_tuned=rotated.found if rotated else None)  # fmt: skip
