"""Scales, angles and maps, searched under the setting's tie or under the one that `--tie auto` chooses."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.interpolations.tie import ties_text
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import scaled_parameters
from qroar_core.remedies.own_search import why_no_search
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.scale_search import choose_ties
from qroar_core.setting import Setting
from qroar_core.specs import SearchSpec
from qroar_core.transforms.groups import groups_of


def _asked(search: SearchSpec) -> SearchSpec:
    return replace(search.without_maps(angles=True), maps=True)


def why_not(loaded: LoadedModel, setting: Setting) -> str:
    """Where the layout takes no map, or no query reads K rounded."""
    if setting.rope.tie:
        return why_no_search(loaded, replace(setting, search=_asked(setting.search)))
    alone = why_no_search(loaded, replace(setting, search=setting.search.without_maps(angles=True)))
    return alone or choose_ties.why_not(loaded, setting)


def prepare(given: RemedyInputs) -> Prepared:
    """The tie and the maps under it; left out where no tie pays and nothing else may be mixed."""
    tie, chosen = given.tie, ""
    if not tie:
        setting = Setting(given.rope, given.quant, search=given.search.without_maps(angles=True))
        choice = choose_ties.run(given.loaded, setting, given.texts, given.on_step)
        tie, chosen = choice.tie, ", chosen on calibration and development text"
    rope = replace(given.rope, tie=tie)
    if not groups_of(given.loaded.geometry, rope):
        return Prepared(given.quant, left_out=choice.sentence)
    scales = given.searched(rope, _asked(given.search))
    words = f"pairs {ties_text(tie)} are tied{chosen}" if tie else "no pairs are tied: maps mix what does not turn"
    return Prepared(given.quant, scaled_parameters(given.loaded, scales), rope=rope, note=words)
