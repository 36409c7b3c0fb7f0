"""One way to queue a stage: its result goes onto the shelf, and running out of memory says what would fit."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from pages.parts.session import library, manager
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.memory import out_of_memory, ran_out
from qroar_core.progress import OnStep
from qroar_core.runs.setting import Setting


def submit(key: tuple, stage: Callable[..., Any], loaded: LoadedModel, setting: Setting, *args: Any,
           label: str, needs: tuple[tuple, ...] = ()) -> None:  # fmt: skip
    """Queue `stage(loaded, setting, *args, *results, on_step=...)` unless `key` is there already, in memory or on disk.

    `results` are those of the jobs that it needs, by key; it fails where one of them did.
    """
    manager().submit(
        key, _in_room, stage, loaded, setting, *args, label=label, device=str(loaded.device),
        keep=partial(library().keep, key, loaded, setting), needs=needs,
    )  # fmt: skip


def _in_room(stage: Callable[..., Any], loaded: LoadedModel, setting: Setting, *args: Any, on_step: OnStep) -> Any:
    """The stage's result as its file gives it back: after a restart a page shows the same digits.

    Out of memory anywhere inside the stage becomes one line that names the length that fits.
    """
    try:
        return stage(loaded, setting, *args, on_step=on_step).as_written()
    except Exception as fault:
        if not ran_out(fault):
            raise
        traceback.clear_frames(fault.__traceback__)  # they hold the tensors that filled the memory
        asked = max(setting.search.length or 0, setting.diagnosis.length or 0, *setting.evaluation.lengths)
        raise out_of_memory(loaded, asked) from None
