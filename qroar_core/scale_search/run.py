"""Stage 3: band scales for W_Q and W_K, searched on calibration text, kept or not by development text.

Said first: whether scales can act at all. Then: bounds from the diagnostics or by hand, the search itself, the guard at
short context and the paired gain, both on development text. If that interval includes zero, identity is kept and the
report says so. Held-out text is the evaluation's: nothing here reads it. A cancelled search keeps its best as
`Cancelled.partial`, which `run(resume=...)` takes up again.
"""

from __future__ import annotations

from pathlib import Path

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.models.capture import Capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, no_progress
from qroar_core.scale_search.gain import Decision
from qroar_core.scale_search.guard import WindowScorer
from qroar_core.scale_search.manual_scales import Probe
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.problem import SearchPlan, SearchProblem
from qroar_core.scale_search.runner import SearchRunner
from qroar_core.scale_search.validation import decide
from qroar_core.setting import Setting
from qroar_core.shared import Shared
from qroar_core.transforms.scales import Scales


def run(
    loaded: LoadedModel,
    setting: Setting,
    texts: Texts,
    diagnosis: Diagnosis | None = None,
    on_step: OnStep = no_progress,
    resume: SearchOutcome | None = None,
    storage: Path | None = None,
    captures: Shared[Capture] | None = None,
) -> SearchOutcome:
    """Search, guard and decide.

    Args:
        texts: documents of "calibration" and "development".
        diagnosis: its tail inflation widens the bounds; without one only the pressure shapes them.
        resume: the `partial` of a cancelled search under the same setting; only what it had left is tried.
        storage: a file through which processes share the candidates of the optuna method; see shared_study.py.
        captures: q, k and v that a search before read from the same text are taken from here, not read again.
    Raises:
        BadText: too little text. BadSpec: an objective that cannot see the quantizer, or a search not to be shared.
        BadOutput: a storage of another setting.
        Cancelled: raised by `on_step`; its `partial` is the outcome so far, or None before any candidate.
    """
    with loaded.lock:
        problem = SearchProblem.of(loaded, setting, texts, captures)
        return SearchRunner(problem, on_step, resume, storage).outcome(diagnosis)


def join(
    loaded: LoadedModel,
    setting: Setting,
    texts: Texts,
    storage: Path,
    diagnosis: Diagnosis | None = None,
    on_step: OnStep = no_progress,
) -> None:
    """Work on a shared search until each of its candidates is finished; what came out is `run`'s to say."""
    with loaded.lock:
        helper = SearchRunner(SearchProblem.of(loaded, setting, texts), on_step, None, storage)
        if helper.begin(diagnosis):
            helper.descend(helper.captured())


def plan(loaded: LoadedModel, setting: Setting, diagnosis: Diagnosis | None = None) -> SearchPlan:
    """What a search would start from; reads no text."""
    return SearchProblem.of(loaded, setting, {}).plan(diagnosis)


def probe(loaded: LoadedModel, setting: Setting, texts: Texts, on_step: OnStep = no_progress) -> Probe:
    """Read calibration text once, to try any scales afterwards without a forward pass.

    Raises:
        BadText: too little text. BadSpec: nothing is quantized that the cached error could see.
    """
    with loaded.lock:
        return Probe.read(SearchProblem.of(loaded, setting, texts), on_step)


def measure_gain(
    loaded: LoadedModel,
    setting: Setting,
    scales: Scales,
    texts: Texts,
    on_step: OnStep = no_progress,
    *,
    from_untied: bool = False,
) -> Decision:
    """The gain of any scales on the development windows by which a search under this setting decides.

    Args:
        from_untied: of tied pairs and scales together, from the quantized model without a tie.
    Raises:
        BadText: too little text for it.
    """
    with loaded.lock:
        problem = SearchProblem.of(loaded, setting, texts)
        scorer = WindowScorer(loaded, setting.rope, setting.quant, on_step)
        return decide(scorer, problem, scales, from_untied=from_untied)
