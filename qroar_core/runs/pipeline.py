"""The whole job: diagnose, search, evaluate, and a folder that holds it all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from qroar_core.diagnostics import run as diagnose
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadOutput
from qroar_core.evaluation import run as evaluate
from qroar_core.evaluation.result import Evaluation
from qroar_core.models.capture import Capture
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.shared_losses import SharedLosses
from qroar_core.models.text import Texts
from qroar_core.progress import OnStep, no_progress
from qroar_core.result import rounded
from qroar_core.retrieval import run as retrieve
from qroar_core.retrieval.result import Retrieval
from qroar_core.runs.agreement import MAKE_AGAIN, disagreement
from qroar_core.runs.folder import RETRIEVALS, ROTATED, SEARCHED, RunFolder, has
from qroar_core.runs.report import report_html
from qroar_core.scale_search import run as search
from qroar_core.scale_search.result import SearchReport
from qroar_core.scale_search.run import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.shared import Shared
from qroar_core.specs import RetrievalSpec
from qroar_core.transforms.file import from_file, to_file
from qroar_core.transforms.scales import Scales, identity

Made = TypeVar("Made", Diagnosis, SearchOutcome, Evaluation, Retrieval)


@dataclass(frozen=True, slots=True, eq=False)
class RunResults:
    """What a finished run holds; `kept` is identity unless decision and evaluation both show a gain."""

    diagnosis: Diagnosis
    report: SearchReport
    found: Scales
    kept: Scales
    evaluation: Evaluation
    retrieved: Retrieval | None = None


def run(
    loaded: LoadedModel,
    setting: Setting,
    texts: Texts,
    folder: RunFolder,
    on_step: OnStep = no_progress,
    *,
    retrieval: RetrievalSpec | None = None,
    storage: Path | None = None,
) -> RunResults:
    """Run every stage whose file is missing from `folder` and return all results.

    Args:
        retrieval: also hide numbers in held-out text and ask for them; a folder that has this retrieval keeps it.
        storage: a file through which processes share the search's candidates; see `scale_search.run.run`.
    Raises:
        Cancelled: raised by `on_step`; finished stages stay on disk.
        BadOutput: what finished stages left there contradicts itself.
    """
    made = tuned(loaded, setting, texts, folder, on_step, storage=storage)
    found = made.found
    retrieved = folder.load(RETRIEVALS[True], Retrieval)
    if retrieval is not None and (retrieved is None or not same(retrieved, retrieval)):
        (folder.path / "report.html").unlink(missing_ok=True)  # it does not tell of this retrieval
        retrieved = _made_and_saved(
            lambda: retrieve.run(loaded, setting, found, retrieval, texts["heldout"], on_step),
            lambda r, s: folder.save(RETRIEVALS[True], r, "retrieve", s),
        )
    if not (folder.path / "report.html").exists():
        started = time.perf_counter()
        text = report_html(
            folder.manifest,
            made.diagnosis,
            made.report,
            to_file(loaded, setting.rope, setting.quant, found),
            made.evaluation,
            retrieved=retrieved,
        )
        folder.save("report.html", text, "report", time.perf_counter() - started)
    return replace(made, retrieved=retrieved)


def tuned(
    loaded: LoadedModel,
    setting: Setting,
    texts: Texts,
    folder: RunFolder,
    on_step: OnStep = no_progress,
    *,
    baseline: bool = True,
    storage: Path | None = None,
    captures: Shared[Capture] | None = None,
    losses: SharedLosses | None = None,
) -> RunResults:
    """Diagnosis, search and evaluation, each of which `folder` lacks, and what is kept of the scales.

    Args:
        baseline: evaluate SmoothAttention's scales beside those found.
        storage: as of `run`.
        captures, losses: what runs before have read and measured on the same text is taken from here.
    Raises:
        Cancelled, BadOutput: as `run`.
    """
    if problem := disagreement(folder.path, setting):
        raise BadOutput(f"{problem}; {MAKE_AGAIN}")
    if setting.evaluation.rotation_scales:
        evaluate.must_rotate(setting.quant)
    diagnosis = folder.load("diagnosis.json", Diagnosis) or _made_and_saved(
        lambda: diagnose.run(loaded, setting, texts["calibration"], on_step),
        lambda d, s: folder.save("diagnosis.json", d, "diagnose", s),
    )
    outcome = load_search(folder.path, lambda path: from_file(path, loaded)[0]) or _made_and_saved(
        lambda: search.run(loaded, setting, texts, diagnosis, on_step, storage=storage, captures=captures),
        lambda o, s: save_search(folder, loaded, setting, o, s),
    )
    smooth, turned = outcome.smooth if baseline else None, None
    if setting.evaluation.rotation_scales:
        turned = rotation_scales(loaded, setting, texts, folder, on_step, rotated_storage(storage))

    def evaluated() -> Evaluation:
        held = texts["heldout"]
        return evaluate.run(loaded, setting, outcome.found, smooth, held, on_step, rotation_tuned=turned, shared=losses)

    evaluation = folder.load("evaluation.json", Evaluation) or _made_and_saved(
        evaluated, lambda e, s: folder.save("evaluation.json", e, "evaluate", s)
    )
    kept = settle(folder, loaded, setting, outcome, evaluation)
    return RunResults(diagnosis, outcome.report, outcome.found, kept, evaluation)


def same(retrieved: Retrieval, spec: RetrievalSpec) -> bool:
    """Whether this retrieval is the one that the spec asks for."""
    return bool(json.loads(json.dumps(rounded(retrieved.spec))) == json.loads(json.dumps(rounded(asdict(spec)))))


def rotated_storage(storage: Path | None) -> Path | None:
    """Where the search under the rotated quantizer is shared: beside the other."""
    return None if storage is None else storage.with_name(storage.name + ".rotation")


def rotation_scales(
    loaded: LoadedModel, setting: Setting, texts: Texts, folder: RunFolder, on_step: OnStep, storage: Path | None = None
) -> Scales:
    """Scales searched under the rotated quantizer, from `folder` where a run before wrote them.

    Their bounds come from the pressure alone: the diagnosis saw K on axes that the rotation leaves.
    """
    path, quant = folder.path / ROTATED, evaluate.must_rotate(setting.quant)

    def save(outcome: SearchOutcome, seconds: float) -> None:
        content = to_file(loaded, setting.rope, quant, outcome.found, outcome.report.facts())
        folder.save(ROTATED, content, "search under rotation", seconds)

    if not has(folder.path, ROTATED):
        _made_and_saved(
            lambda: search.run(loaded, replace(setting, quant=quant), texts, None, on_step, storage=storage), save
        )
    return from_file(path, loaded)[0]


def _made_and_saved(make: Callable[[], Made], save: Callable[[Made, float], None]) -> Made:
    """What a stage makes, saved: as its file gives it back, so that a resumed run is the same."""
    started = time.perf_counter()
    made = make().as_written()
    save(made, time.perf_counter() - started)
    return made


def save_search(
    folder: RunFolder, loaded: LoadedModel, setting: Setting, outcome: SearchOutcome, seconds: float
) -> None:
    """Write what a search found: its scales to the last bit, and its report last, which marks it whole."""
    for name, what in SEARCHED.items():
        content = to_file(loaded, setting.rope, setting.quant, getattr(outcome, what), outcome.report.facts())
        folder.save(name, content, "search", seconds)
    folder.save("search.json", outcome.report, "search", seconds)


def load_search(path: Path, read: Callable[[Path], Scales]) -> SearchOutcome | None:
    """The outcome of a finished search in the run folder `path`, whose scales files `read` reads; None without one.

    Raises:
        QRoarError: a file is there and cannot be read.
    """
    if not all(has(path, name) for name in ("search.json", *SEARCHED)):
        return None
    report = SearchReport.from_file(path / "search.json", BadOutput)
    scales = {what: read(path / name) for name, what in SEARCHED.items()}
    kept = scales["found"] if report.chosen == "found" else _identity_like(scales["found"])
    return SearchOutcome(scales["found"], kept, scales["smooth"], scales["mad"], report)


def settle(
    folder: RunFolder, loaded: LoadedModel, setting: Setting, outcome: SearchOutcome, evaluation: Evaluation
) -> Scales:
    """The scales worth keeping, in scales.json: what was found, or identity.

    The search decides, on development text. Held-out text only reports, and takes back what shows no gain there.
    """
    good = outcome.report.chosen == "found" and (evaluation.gain is None or evaluation.gain.significant)
    kept = outcome.found if good else _identity_like(outcome.found)
    if not has(folder.path, "scales.json"):
        content = to_file(loaded, setting.rope, setting.quant, kept, outcome.report.facts())
        folder.save("scales.json", content, "settle", 0.0)
    return kept


def _identity_like(scales: Scales) -> Scales:
    layers, heads, _ = scales.g.shape
    return identity(layers, heads, scales.bands, scales.mode, scales.granularity)
