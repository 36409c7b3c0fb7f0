"""Evidence that needs more than one search: the controls beside tuned scales, and the papers' claims by setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evidence.controls import run as controls
from qroar_core.evidence.controls.result import Controls
from qroar_core.evidence.replication import run as replicate
from qroar_core.evidence.replication.result import Replication
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import SPLITS, Texts, split
from qroar_core.progress import OnStep, Step, no_progress
from qroar_core.scale_search.find_scales import find_scales
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.setting import Setting
from qroar_core.specs import ControlSpec, QuantSpec, ReplicationSpec, RopeSpec
from qroar_core.specs.labels import setting_words
from qroar_core.transforms.scales import Scales


def control(
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
        say = _saying(on_step, f"search with seed {seed}")
        found = find_scales(loaded, setting.rope, setting.quant, with_seed, texts, diagnosis, say)
        others.setdefault(controls.OTHER_SEEDS, []).append(found)
    for collection in spec.collections:
        elsewhere = {name: split(name, collection, setting.bos_word) for name in SPLITS}
        say = _saying(on_step, f"search on {collection}")
        others[collection] = [find_scales(loaded, setting.rope, setting.quant, setting.search, elsewhere, None, say)]
    spec = replace(spec, length=spec.length or setting.search.length)
    return controls.run(loaded, setting.rope, setting.quant, scales, spec, texts["heldout"], on_step, others=others)


def replication(
    loaded: LoadedModel,
    setting: Setting,
    pairs: Sequence[tuple[RopeSpec, QuantSpec]],
    spec: ReplicationSpec,
    texts: Texts,
    on_step: OnStep = no_progress,
) -> Replication:
    """Diagnose and search under every interpolation and quantizer of `pairs`, then test the claims.

    Args:
        setting: its search and diagnosis specs serve every pair.
    """
    cases = []
    for rope, quant in pairs:
        say = _saying(on_step, setting_words(rope, quant))
        diagnosis = diagnose.run(loaded, rope, quant, setting.diagnosis, texts["calibration"], say)
        found = find_scales(loaded, rope, quant, setting.search, texts, diagnosis, say)
        verdict = SearchProblem(loaded, rope, quant, setting.search, {}).verdict
        note = verdict.reason.rstrip(".") if verdict.acts == "no" else replicate.NO_SCALES
        cases.append(replicate.Case(rope, quant, found, diagnosis, note))
    spec = replace(
        spec,
        length=spec.length or setting.search.length,
        short_length=spec.short_length or setting.diagnosis.short_length,
    )
    return replicate.run(loaded, cases, spec, texts["heldout"], on_step)


def _saying(on_step: OnStep, what: str) -> OnStep:
    """Steps of a stage inside, under the name of what it serves."""
    return lambda step: on_step(Step(step.stage, step.done, step.total, f"{what}: {step.what}"))
