"""The controls beside tuned scales: search again with other seeds and on other texts, then measure all of it."""

from __future__ import annotations

from dataclasses import replace

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evidence.controls.measure import OTHER_SEEDS, measure_controls
from qroar_core.evidence.controls.result import Controls
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, Texts, split
from qroar_core.progress import OnStep, no_progress, within
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import ControlSpec
from qroar_core.transforms.scales import Scales


def run(
    loaded: LoadedModel,
    setting: Setting,
    scales: Scales,
    spec: ControlSpec,
    texts: Texts,
    diagnosis: Diagnosis | None = None,
    on_step: OnStep = no_progress,
) -> Controls:
    """Search with the other seeds and on the other texts that `spec` names, then measure every control.

    Args:
        scales: the tuned ones.
        texts: documents of each split; the held-out ones are what everything is measured on.
        diagnosis: what widened the bounds of the search behind `scales`. Searches on other text go without: it saw
            the text they must not see.
    Raises:
        BadText: too little text, or an unknown collection.
    """
    others: dict[str, list[Scales]] = {}
    for seed in spec.seeds:
        with_seed = replace(setting.search, seed=seed)
        say = within(on_step, f"search with seed {seed}")
        found = find_scales(loaded, replace(setting, search=with_seed), texts, diagnosis, say)
        others.setdefault(OTHER_SEEDS, []).append(found)
    for collection in spec.collections:
        elsewhere = {name: split(name, collection, setting.bos_word) for name in SPLITS}
        say = within(on_step, f"search on {collection}")
        others[collection] = [find_scales(loaded, setting, elsewhere, None, say)]
    spec = replace(spec, length=spec.length or setting.search.length)
    return measure_controls(loaded, setting, scales, spec, texts["heldout"], on_step, others=others)
