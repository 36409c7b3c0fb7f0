"""The keys of the stages: what a job computes."""

from __future__ import annotations

from collections.abc import Hashable

from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.stage_files import Tuned
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting


def stage_key(stage: str, loaded: LoadedModel, setting: Setting, *specs: Hashable) -> tuple:
    """What `stage` would compute for this model and setting on its texts. `runs.store` reads these keys too."""
    who = (loaded.checksum, str(loaded.device), str(loaded.dtype))
    return (stage, *who, setting.reading, setting.rope, setting.quant, *specs)


def origin(setting: Setting, outcome: SearchOutcome | None) -> tuple[Hashable, ...]:
    """What scales in a key stand for: the search they came from, the diagnosis its bounds came from, and they."""
    return (setting.search, setting.diagnosis, Tuned.of(outcome)) if outcome else ()
