"""The papers' claims: diagnose and search under every interpolation and quantizer, then test each claim there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from qroar_core.diagnostics import run as diagnose
from qroar_core.evidence.replication.claims import accuracy, untestable
from qroar_core.evidence.replication.measure import NO_SCALES, ReplicationSetting, measure_claims
from qroar_core.evidence.replication.result import Claim, Replication
from qroar_core.harness import run as harness
from qroar_core.harness.tasks import load_tasks, require_installed
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, no_progress, within
from qroar_core.scale_search.problem import SearchProblem
from qroar_core.scale_search.search_without_decision import find_scales
from qroar_core.setting import Setting
from qroar_core.specs import HarnessSpec, QuantSpec, ReplicationSpec, RopeSpec
from qroar_core.specs.labels import setting_words
from qroar_core.transforms.scales import Scales


def run(
    loaded: LoadedModel,
    setting: Setting,
    pairs: Sequence[tuple[RopeSpec, QuantSpec]],
    spec: ReplicationSpec,
    texts: Texts,
    on_step: OnStep = no_progress,
    *,
    tasks: HarnessSpec | None = None,
) -> Replication:
    """Diagnose and search under every interpolation and quantizer of `pairs`, then test the claims.

    Args:
        setting: its search and diagnosis specs serve every pair.
        tasks: of lm-evaluation-harness, which the claim about accuracy is tested on; None leaves that claim out.
    Raises:
        BadSpec, BadText: what `harness.run` refuses, before anything is searched where it is no matter of the model.
    """
    cases, accuracies = [], []
    if tasks is not None:
        require_installed()
        load_tasks(tasks)
    for rope, quant in pairs:
        say = within(on_step, setting_words(rope, quant))
        under = replace(setting, rope=rope, quant=quant)
        diagnosis = diagnose.run(loaded, under, texts["calibration"], say)
        found = find_scales(loaded, under, texts, diagnosis, say)
        verdict = SearchProblem.of(loaded, under, {}).verdict
        note = verdict.reason.rstrip(".") if verdict.acts == "no" else NO_SCALES
        cases.append(ReplicationSetting(rope, quant, found, diagnosis, note))
        if tasks is not None:
            accuracies.append(_accuracy(loaded, under, found, note, tasks, spec.confidence, texts, say))
    spec = replace(
        spec,
        length=spec.length or setting.search.length,
        short_length=spec.short_length or setting.diagnosis.short_length,
    )
    tested = measure_claims(loaded, cases, spec, texts["heldout"], on_step)
    if tasks is None:
        return tested
    claimed = [
        case.model_copy(update={"claims": [*case.claims, claim]})
        for case, claim in zip(tested.cases, accuracies, strict=True)
    ]
    return tested.model_copy(update={"cases": claimed, "tasks": asdict(tasks)})


def _accuracy(
    loaded: LoadedModel,
    setting: Setting,
    scales: Scales,
    note: str,
    tasks: HarnessSpec,
    confidence: float,
    texts: Texts,
    on_step: OnStep,
) -> Claim:
    if scales.is_identity:
        return untestable("accuracy", note)
    return accuracy(harness.run(loaded, setting, scales, tasks, texts["calibration"], on_step), confidence)
