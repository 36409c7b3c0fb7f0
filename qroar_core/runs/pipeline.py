"""The whole job: diagnose, search, evaluate, and a folder that holds it all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from qroar_core import diagnose, evaluate, search
from qroar_core.maths.rescale import Scales, identity
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.scales_file import from_file, to_file
from qroar_core.models.text import Document
from qroar_core.progress import OnStep, ignore
from qroar_core.results import Diagnosis, Evaluation, SearchReport
from qroar_core.runs.folder import RunFolder
from qroar_core.runs.report import report_html
from qroar_core.runs.setting import Setting

T = TypeVar("T")


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
    diagnosis = _stage(folder, "diagnose", lambda: folder.load("diagnosis.json", Diagnosis),
                       lambda: diagnose.run(loaded, setting.rope, setting.quant, setting.diagnosis,
                                            texts["calibration"], on_step),
                       lambda d, s: folder.save("diagnosis.json", d, "diagnose", s))  # fmt: skip
    found, smooth, report = _search(loaded, setting, texts, folder, diagnosis, on_step)
    evaluation = _stage(folder, "evaluate", lambda: folder.load("evaluation.json", Evaluation),
                        lambda: evaluate.run(loaded, setting.rope, setting.quant, found, smooth, setting.evaluation,
                                             texts["heldout"], on_step),
                        lambda e, s: folder.save("evaluation.json", e, "evaluate", s))  # fmt: skip
    good = report.chosen == "found" and (evaluation.gain is None or evaluation.gain.significant)
    kept = found if good else _identity_like(found)
    _settle(folder, loaded, setting, kept, report)
    _stage(folder, "report", lambda: (folder.path / "report.html").exists() or None,
           lambda: report_html(folder.manifest, diagnosis, report, to_file(loaded, setting.rope, setting.quant, found),
                               evaluation),
           lambda text, s: folder.save("report.html", str(text), "report", s))  # fmt: skip
    return Run(diagnosis, report, found, kept, evaluation)


def _stage(folder: RunFolder, name: str, load: Callable[[], T | None], make: Callable[[], T],
           save: Callable[[T, float], None]) -> T:  # fmt: skip
    done = load()
    if done is not None:
        return done
    started = time.perf_counter()
    made = make()
    save(made, time.perf_counter() - started)
    return made


def _search(loaded, setting, texts, folder, diagnosis, on_step) -> tuple[Scales, Scales, SearchReport]:
    names = {"found": "scales_found.json", "smooth": "scales_smooth_attention.json"}
    report = folder.load("search.json", SearchReport)
    if report is not None and all((folder.path / n).is_file() for n in names.values()):
        found, smooth = (from_file(folder.path / n, loaded)[0] for n in names.values())
        return found, smooth, report
    started = time.perf_counter()
    outcome = search.run(loaded, setting.rope, setting.quant, setting.search, texts, diagnosis, on_step)
    seconds = time.perf_counter() - started
    for what, scales in (("found", outcome.found), ("smooth", outcome.smooth)):
        content = to_file(loaded, setting.rope, setting.quant, scales, _summary(outcome.report))
        folder.save(names[what], content, "search", seconds)
    folder.save("search.json", outcome.report, "search", seconds)
    return outcome.found, outcome.smooth, outcome.report


def _settle(folder: RunFolder, loaded: LoadedModel, setting: Setting, kept: Scales, report: SearchReport) -> None:
    if not (folder.path / "scales.json").is_file():
        content = to_file(loaded, setting.rope, setting.quant, kept, _summary(report))
        folder.save("scales.json", content, "settle", 0.0)


def _summary(report: SearchReport) -> dict:
    return report.model_dump(include={"objective", "method", "bounds", "trials", "seconds", "forward_equivalents"})


def _identity_like(scales: Scales) -> Scales:
    layers, heads, _ = scales.g.shape
    return identity(layers, heads, scales.bands, scales.mode, scales.granularity)
