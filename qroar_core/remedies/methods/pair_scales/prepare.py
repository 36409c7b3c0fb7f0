"""Scale and angle of every RoPE pair, searched for the quantizer."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.models.loaded import LoadedModel
from qroar_core.models.patch import scaled_parameters
from qroar_core.remedies.own_search import of_pairs, why_no_search
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.setting import Setting


def why_not(loaded: LoadedModel, setting: Setting) -> str:
    """Where pairs cannot be turned, or the search cannot turn them."""
    search = of_pairs(setting.search, loaded.geometry.n_pairs)
    return why_no_search(loaded, replace(setting, search=search))


def prepare(given: RemedyInputs) -> Prepared:
    """What the comparison's search finds with as many bands as there are pairs, and angles."""
    scales = given.searched(given.rope, of_pairs(given.search, given.loaded.geometry.n_pairs))
    return Prepared(given.quant, scaled_parameters(given.loaded, scales))
