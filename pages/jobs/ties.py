"""The stage that chooses which pairs to tie, before a search."""

from __future__ import annotations

from collections.abc import Hashable

from pages.jobs import Stage
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.scale_search import choose_ties as stage
from qroar_core.scale_search.result_ties import TieChoice
from qroar_core.setting import Setting
from qroar_core.specs import SearchSpec


def _choose(loaded: LoadedModel, setting: Setting, on_step: OnStep) -> TieChoice:
    return stage.run(loaded, setting, setting.texts(), on_step).as_written()


def _chosen(setting: Setting) -> tuple[Hashable, ...]:
    """What is read, and the bands that scales begin from."""
    asked = setting.search
    return (SearchSpec(bands=asked.bands, length=asked.length, windows=asked.windows, seed=asked.seed),)


choose_ties = Stage("ties", "Choose tied pairs for {model}", _chosen, _choose, kept=False)
