"""Queue the league of remedies, and find it again."""

from __future__ import annotations

from pages.parts.elsewhere import result_of
from pages.parts.work.keys import stage_key
from pages.parts.work.staging import submit
from pages.parts.work.texts import texts
from qroar_core import league
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.results.league import League
from qroar_core.runs.setting import Setting
from qroar_core.searching.seek import seek
from qroar_core.specs import LeagueSpec


def key(loaded: LoadedModel, setting: Setting, spec: LeagueSpec) -> tuple:
    """The league under this setting."""
    return stage_key("league", loaded, setting, spec)


def result(loaded: LoadedModel, setting: Setting, spec: LeagueSpec) -> League | None:
    """The finished league, if there is one."""
    return result_of(key(loaded, setting, spec))


def start(loaded: LoadedModel, setting: Setting, spec: LeagueSpec) -> tuple:
    """Queue the league unless it is there already; returns its key."""
    mine = key(loaded, setting, spec)
    submit(mine, _play, loaded, setting, spec, label=f"Compare remedies for {loaded.name}")
    return mine


def _play(loaded: LoadedModel, setting: Setting, spec: LeagueSpec, on_step: OnStep) -> League:
    return league.run(loaded, setting.rope, setting.quant, spec, texts(setting), on_step=on_step, seek=seek)
