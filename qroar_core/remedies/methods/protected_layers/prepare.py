"""Layers chosen on development text under the comparison's budget; no parameter changes."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.errors import BadSpec
from qroar_core.models.calibrate import calibrated
from qroar_core.models.condition import Condition
from qroar_core.models.text import windows
from qroar_core.remedies.layer_memory import require_budget
from qroar_core.remedies.layers import choose
from qroar_core.remedies.prepared import Prepared, RemedyInputs
from qroar_core.remedies.range_choice import why_no_cache
from qroar_core.specs.layers import LayerChoiceSpec

why_not = why_no_cache


def prepare(given: RemedyInputs) -> Prepared:
    """The same quantizers with the chosen layers left out."""
    loaded, length = given.loaded, given.ids.shape[1]
    try:
        require_budget(loaded.geometry, given.quant, length, given.cache_bytes)
    except BadSpec as refusal:
        return Prepared(given.quant, left_out=refusal.what)
    spec = LayerChoiceSpec(given.cache_bytes, chunk=given.chunk, seed=given.search.seed)
    development = windows(loaded.tokenizer, given.texts["development"], length, spec.windows, spec.seed, fewer=True)
    condition = calibrated(loaded, Condition(given.rope, given.quant), given.ids[:1], given.chunk)
    choice = choose(loaded, condition, development, spec, given.on_step)
    kept = replace(given.quant, keep_layers=tuple(choice.kept))
    return Prepared(kept, note=choice.words, layers=choice)
