"""Put scales into the loaded weights, or take them out again, in turn with every other job."""

from __future__ import annotations

from dataclasses import dataclass

from pages.parts.session import manager
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.progress import OnStep, Step
from qroar_core.runs.setting import Setting


@dataclass(frozen=True, slots=True)
class Applied:
    """Where applied scales come from: the setting they were made under, and their name there."""

    setting: Setting
    name: str

    def belongs_to(self, setting: Setting) -> bool:
        """Could they have been made under this setting? How they are evaluated and diagnosed decides nothing."""
        mine, other = self.setting, setting
        return (mine.rope, mine.quant, mine.search, mine.reading) == (other.rope, other.quant, other.search,
                                                                      other.reading)  # fmt: skip


def key(loaded: LoadedModel, scales: Scales | None) -> tuple:
    """One job per change, so that no click is lost behind another's."""
    return ("patch", loaded.checksum, str(loaded.device), scales.digest if scales is not None else "undo")


def changing(loaded: LoadedModel) -> tuple | None:
    """The key of the change of this model that runs or waits, the first of them, or None."""
    mine = key(loaded, None)[:3]
    keys = (job.key for job in manager().active() if isinstance(job.key, tuple))
    return next((k for k in keys if k[:3] == mine), None)


def start(loaded: LoadedModel, scales: Scales | None, applied: Applied | None = None) -> tuple:
    """Queue applying `scales` to the loaded weights, or undoing what is applied; returns the key."""
    mine, device = key(loaded, scales), str(loaded.device)
    what = "Undo the scales in" if scales is None else "Apply scales to"
    label = f"{what} {loaded.name}'s weights"
    manager().submit(mine, _patch, loaded, scales, applied, label=label, device=device, again=True)
    return mine


def _patch(loaded: LoadedModel, scales: Scales | None, applied: Applied | None, on_step: OnStep) -> None:
    on_step(Step("patch", 0, 1, "swap weights"))
    undo_scales(loaded) if scales is None else apply_scales(loaded, scales, applied)
