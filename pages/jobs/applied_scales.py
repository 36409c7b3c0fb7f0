"""Put scales into the loaded weights, or take them out again, in turn with every other job."""

from __future__ import annotations

from dataclasses import dataclass

from pages.state.candidates import FOUND, HAND
from pages.state.session import asked_here, manager
from qroar_core.errors import BadScales
from qroar_core.job import JobKey
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import apply_scales, undo_scales
from qroar_core.progress import OnStep, Step
from qroar_core.setting import Setting
from qroar_core.specs.labels import setting_words
from qroar_core.transforms.scales import Scales


@dataclass(frozen=True, slots=True)
class ScalesOrigin:
    """Where applied scales come from: the setting they were made under, their name there, and who made them."""

    setting: Setting
    name: str
    folder: str = ""  # the run folder from elsewhere that holds them; empty: made by this dashboard

    @property
    def origin(self) -> str:
        """Who made them, for everybody who meets them in the weights."""
        if self.folder:
            return f"of the run folder {self.folder}, not measured by this dashboard"
        return {FOUND: "found by a search here", HAND: "set by hand"}.get(self.name, "from statistics alone")

    @property
    def words(self) -> str:
        """Name and origin."""
        return self.name if self.name == HAND else f"{self.name}, {self.origin}"

    def belongs_to(self, setting: Setting) -> bool:
        """Could they have been made under this setting? How they are evaluated and diagnosed decides nothing."""
        mine, other = self.setting, setting
        return (mine.rope, mine.quant, mine.search, mine.reading) == (
            other.rope,
            other.quant,
            other.search,
            other.reading,
        )


def key(loaded: LoadedModel, scales: Scales | None, undone: Scales | None = None) -> JobKey[None]:
    """One job per change, so that no click is lost behind another's."""
    what = scales.digest if scales is not None else f"undo {undone.digest if undone is not None else ''}"
    return JobKey(("patch", loaded.checksum, str(loaded.device), what))


def changing(loaded: LoadedModel) -> JobKey[None] | None:
    """The key of the change of this model that runs or waits, the first of them, or None."""
    return next(iter(_changes(loaded)), None)


def _changes(loaded: LoadedModel) -> list[JobKey[None]]:
    mine = key(loaded, None)[:3]
    return [job.key for job in manager().active() if isinstance(job.key, JobKey) and job.key[:3] == mine]


def start(
    loaded: LoadedModel, scales: Scales | None, applied: ScalesOrigin | None = None, undone: Scales | None = None
) -> JobKey[None]:
    """Queue applying `scales` to the loaded weights, or undoing `undone`; returns the key.

    A page is as old as its last look: another person may have applied other scales since, and Undo is not for those.
    A second click for the change that comes last anyway queues nothing.
    """
    mine, device = key(loaded, scales, undone), str(loaded.device)
    asked_here().add(mine)  # first: behind the start of a job nothing ends a run
    if _changes(loaded)[-1:] == [mine]:
        return mine
    what = "Undo the scales in" if scales is None else "Apply scales to"
    label = f"{what} {loaded.name}'s weights"
    change = (_undo, loaded, undone) if scales is None else (_apply, loaded, scales, applied)
    about = "" if (of := applied or loaded.applied_under) is None else f"{of.name} of {_setting_words(of.setting)}"
    manager().submit(mine, *change, label=label, device=device, again=True, about=about)
    return mine


def _setting_words(setting: Setting) -> str:
    return f"{setting_words(setting.rope, setting.quant)}, {setting.search.length} tokens"


def _apply(loaded: LoadedModel, scales: Scales, applied: ScalesOrigin | None, on_step: OnStep) -> None:
    on_step(Step("patch", 0, 1, "swap weights"))
    apply_scales(loaded, scales, applied)


def _undo(loaded: LoadedModel, undone: Scales | None, on_step: OnStep) -> None:
    on_step(Step("patch", 0, 1, "swap weights"))
    if loaded.applied is not None and loaded.applied is not undone:
        raise BadScales(
            f"nothing was undone in {loaded.name}'s weights: scales were applied anew since this page was drawn",
            do="look at what is applied now, and undo it under its setup",
        )
    undo_scales(loaded)
