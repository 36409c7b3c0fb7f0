"""The first layer, the last, the second, the last but one, while the comparison's budget holds them."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.errors import BadSpec
from qroar_core.remedies.layer_memory import budget_of, first_and_last, require_budget
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.remedies.range_choice import why_no_cache
from qroar_core.specs.labels import kept_words

why_not = why_no_cache


def prepare(given: RemedyInputs) -> Prepared:
    """The same quantizers with these layers left out."""
    geo, length = given.loaded.geometry, given.ids.shape[1]
    try:
        require_budget(geo, given.quant, length, given.cache_bytes)
    except BadSpec as refusal:
        return Prepared(given.quant, left_out=refusal.what)
    kept = first_and_last(geo, given.quant, length, budget_of(geo, given.quant, length, given.cache_bytes))
    note = kept_words(kept, geo.n_layers) if kept else "no layer kept: none fits into the budget"
    return Prepared(replace(given.quant, keep_layers=tuple(kept)), note=note)
