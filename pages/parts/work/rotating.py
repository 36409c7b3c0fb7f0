"""Queue a second search under the Hadamard-rotated quantizer, and find it again."""

from __future__ import annotations

from typing import Any

from pages.parts.elsewhere import result_of
from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import search
from qroar_core.evaluate import must_rotate
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.runs.setting import Setting


def key(loaded: LoadedModel, setting: Setting) -> tuple:
    """The search under this setting with its quantizers rotated."""
    return stage_key("search under rotation", loaded, setting, setting.search)


def result(loaded: LoadedModel, setting: Setting) -> Any:
    """The finished search's outcome, if there is one."""
    return result_of(key(loaded, setting))


def start(loaded: LoadedModel, setting: Setting) -> tuple:
    """Queue the search unless it is there already; returns its key."""
    mine = key(loaded, setting)
    submit(mine, _search, loaded, setting, label=f"Tune {loaded.name} under a rotation")
    return mine


def _search(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> Any:
    """No diagnosis widens the bounds: it saw K on axes that the rotation leaves."""
    return search.run(loaded, setting.rope, must_rotate(setting.quant), setting.search, texts(setting), None,
                      on_step=on_step)  # fmt: skip
