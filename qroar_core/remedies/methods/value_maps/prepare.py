"""Value maps of every KV head, and scale and angle of every RoPE pair of K, in one search."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import scaled_parameters
from qroar_core.remedies.own_search import of_pairs, why_no_search
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.setting import Setting
from qroar_core.specs import SearchSpec


def _asked(search: SearchSpec, pairs: int) -> SearchSpec:
    return of_pairs(search, pairs, value_maps=True, objective="cached")


def why_not(loaded: LoadedModel, setting: Setting) -> str:
    """Where something between V and W_O tells channels apart, or pairs cannot be turned."""
    return why_no_search(loaded, replace(setting, search=_asked(setting.search, loaded.geometry.n_pairs)))


def prepare(given: RemedyInputs) -> Prepared:
    """What the search finds on the cached objective, the only one that value maps have."""
    scales = given.searched(given.rope, _asked(given.search, given.loaded.geometry.n_pairs))
    return Prepared(given.quant, scaled_parameters(given.loaded, scales))
