"""The whole job: diagnose, search, evaluate, and a folder that holds it all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qroar_core import diagnose, evaluate, search
from qroar_core.errors import BadOutput
from qroar_core.maths.rescale import Scales, identity
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.scales_file import from_file, to_file
from qroar_core.models.text import Document
from qroar_core.progress import OnStep, ignore
from qroar_core.results import Diagnosis, Evaluation, SearchReport
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.report import report_html
from qroar_core.runs.setting import Setting
from qroar_core.search import SearchOutcome

T = TypeVar("T")
ROTATED = "scales_rotation.json"
SEARCHED = {"scales_found.json": "found", "scales_smooth_attention.json": "smooth", "scales_mad.json": "mad"}


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a finished run holds; `kept` is identity unless the gain on held-out text was significant."""

    diagnosis: Diagnosis
    report: SearchReport
    found: Scales
    kept: Scales
    evaluation: Evaluation


def run(loaded: LoadedModel, setting: Setting, texts: dict[str, list[Document]], folder: RunFolder,
        on_step: OnStep = ignore) -> Run:  # fmt: skip
    """Run every stage whose file is missing from `folder` and return all results.

    Raises:
        Cancelled: raised by `on_step`; finished stages stay on disk.
    """
    if setting.evaluation.rotation_scales:
        evaluate.must_rotate(setting.quant)
    diagnosis = _stage(folder, "diagnose", lambda: folder.load("diagnosis.json", Diagnosis),
                       lambda: diagnose.run(loaded, setting.rope, setting.quant, setting.diagnosis,
                                            texts["calibration"], on_step),
                       lambda d, s: folder.save("diagnosis.json", d, "diagnose", s))  # fmt: skip
    outcome = _stage(folder, "search", lambda: load_search(folder.path, lambda path: from_file(path, loaded)[0]),
                     lambda: search.run(loaded, setting.rope, setting.quant, setting.search, texts, diagnosis, on_step),
                     lambda o, s: save_search(folder, loaded, setting, o, s))  # fmt: skip
    found, report = outcome.found, outcome.report
    turned = rotation_scales(loaded, setting, texts, folder, on_step) if setting.evaluation.rotation_scales else None
    evaluation = _stage(folder, "evaluate", lambda: folder.load("evaluation.json", Evaluation),
                        lambda: evaluate.run(loaded, setting.rope, setting.quant, found, outcome.smooth,
                                             setting.evaluation, texts["heldout"], on_step, rotation_tuned=turned),
                        lambda e, s: folder.save("evaluation.json", e, "evaluate", s))  # fmt: skip
    kept = settle(folder, loaded, setting, outcome, evaluation)
    _stage(folder, "report", lambda: (folder.path / "report.html").exists() or None,
           lambda: report_html(folder.manifest, diagnosis, report, to_file(loaded, setting.rope, setting.quant, found),
                               evaluation),
           lambda text, s: folder.save("report.html", str(text), "report", s))  # fmt: skip
    return Run(diagnosis, report, found, kept, evaluation)


def rotation_scales(loaded: LoadedModel, setting: Setting, texts: dict[str, list[Document]], folder: RunFolder,
                    on_step: OnStep) -> Scales:  # fmt: skip
    """Scales searched under the rotated quantizer, from `folder` where a run before wrote them.

    Their bounds come from the pressure alone: the diagnosis saw K on axes that the rotation leaves.
    """
    path, quant = folder.path / ROTATED, evaluate.must_rotate(setting.quant)

    def save(outcome: SearchOutcome, seconds: float) -> None:
        content = to_file(loaded, setting.rope, quant, outcome.found, _summary(outcome.report))
        folder.save(ROTATED, content, "search under rotation", seconds)

    if not path.is_file():
        _stage(folder, "search under rotation", lambda: None,
               lambda: search.run(loaded, setting.rope, quant, setting.search, texts, None, on_step), save)  # fmt: skip
    return from_file(path, loaded)[0]


def _stage(folder: RunFolder, name: str, load: Callable[[], T | None], make: Callable[[], T],
           save: Callable[[T, float], None]) -> T:  # fmt: skip
    done = load()
    if done is not None:
        return done
    started = time.perf_counter()
    made = make()
    save(made, time.perf_counter() - started)
    return made


def save_search(folder: RunFolder, loaded: LoadedModel, setting: Setting, outcome: SearchOutcome,
                seconds: float) -> None:  # fmt: skip
    """Write what a search found: its scales to the last bit, and its report last, which marks it whole."""
    for name, what in SEARCHED.items():
        content = to_file(loaded, setting.rope, setting.quant, getattr(outcome, what), _summary(outcome.report))
        folder.save(name, content, "search", seconds)
    folder.save("search.json", outcome.report, "search", seconds)


def load_search(path: Path, read: Callable[[Path], Scales]) -> SearchOutcome | None:
    """The outcome of a finished search in the run folder `path`, whose scales files `read` reads; None without one.

    Raises:
        QRoarError: a file is there and cannot be read.
    """
    if not all((path / name).is_file() for name in ("search.json", *SEARCHED)):
        return None
    report = SearchReport.from_file(path / "search.json", BadOutput)
    scales = {what: read(path / name) for name, what in SEARCHED.items()}
    kept = scales["found"] if report.chosen == "found" else _identity_like(scales["found"])
    return SearchOutcome(scales["found"], kept, scales["smooth"], scales["mad"], report)


def settle(folder: RunFolder, loaded: LoadedModel, setting: Setting, outcome: SearchOutcome,
           evaluation: Evaluation) -> Scales:  # fmt: skip
    """The scales worth keeping, in scales.json: what was found, or identity where nothing was proven."""
    good = outcome.report.chosen == "found" and (evaluation.gain is None or evaluation.gain.significant)
    kept = outcome.found if good else _identity_like(outcome.found)
    if not (folder.path / "scales.json").is_file():
        content = to_file(loaded, setting.rope, setting.quant, kept, _summary(outcome.report))
        folder.save("scales.json", content, "settle", 0.0)
    return kept


def _summary(report: SearchReport) -> dict:
    return report.model_dump(include={"objective", "method", "bounds", "trials", "seconds", "forward_equivalents"})


def _identity_like(scales: Scales) -> Scales:
    layers, heads, _ = scales.g.shape
    return identity(layers, heads, scales.bands, scales.mode, scales.granularity)
