"""The papers' claims: diagnose and search under every interpolation and quantizer, then test each claim there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qroar_core.diagnostics import run as diagnose
from qroar_core.evidence.replication.measure import NO_SCALES, ReplicationSetting, measure_claims
from qroar_core.evidence.replication.result import Replication
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, no_progress, within
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import QuantSpec, ReplicationSpec, RopeSpec
from qroar_core.specs.labels import setting_words


def run(
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
        say = within(on_step, setting_words(rope, quant))
        under = replace(setting, rope=rope, quant=quant)
        diagnosis = diagnose.run(loaded, under, texts["calibration"], say)
        found = find_scales(loaded, under, texts, diagnosis, say)
        verdict = SearchProblem.of(loaded, under, {}).verdict
        note = verdict.reason.rstrip(".") if verdict.acts == "no" else NO_SCALES
        cases.append(ReplicationSetting(rope, quant, found, diagnosis, note))
    spec = replace(
        spec,
        length=spec.length or setting.search.length,
        short_length=spec.short_length or setting.diagnosis.short_length,
    )
    return measure_claims(loaded, cases, spec, texts["heldout"], on_step)
