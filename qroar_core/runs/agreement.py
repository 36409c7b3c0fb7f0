"""What the files of one run say of each other: scales of the search's report, results of the manifest's setting.

Each file may be in order, and the run still be put together from two. Only what one file must repeat of another is
compared; what an older version did not write is not asked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadOutput
from qroar_core.evaluation.contradictions import contradictions_of as of_evaluation
from qroar_core.evaluation.result import Evaluation
from qroar_core.evaluation.run import rotated, scored
from qroar_core.harness.result import TaskScores
from qroar_core.plain_file import read_json
from qroar_core.result import rounded
from qroar_core.runs.agreement_scales import (
    MAD,
    SMOOTH,
    baseline_against,
    bounds_against,
    documents_against,
    found_against,
    in_the_setting,
)
from qroar_core.runs.folder import ROTATED, SEARCHED, TASK_SCORES, UNTUNED, has
from qroar_core.scale_search.contradictions import GUARD
from qroar_core.scale_search.contradictions import contradictions_of as of_search
from qroar_core.scale_search.objective import FIRST
from qroar_core.scale_search.optuna_candidates import swept
from qroar_core.scale_search.result import SearchReport
from qroar_core.scale_search.search_methods import search_methods
from qroar_core.setting import Setting
from qroar_core.specs import DiagnosisSpec, EvaluationSpec, SearchSpec
from qroar_core.specs.written import YOUNGER, written
from qroar_core.transforms.registry import switches
from qroar_core.transforms.result import ScalesFile

SEARCH_FILE, EVALUATION_FILE, KEPT_SCALES_FILE, FOUND_SCALES_FILE = (
    "search.json",
    "evaluation.json",
    "scales.json",
    "scales_found.json",
)
DIAGNOSIS_FILE, MANIFEST_FILE = "diagnosis.json", "manifest.json"
COMPARED_FILES = (
    SEARCH_FILE,
    EVALUATION_FILE,
    UNTUNED,
    KEPT_SCALES_FILE,
    *SEARCHED,
    ROTATED,
    DIAGNOSIS_FILE,
    TASK_SCORES,
)  # what is compared
MAKE_AGAIN = "the run contradicts itself; make it again"
LENGTH = re.compile(r"of (\d+) tokens, digest")
SEED = re.compile(r", seed (\d+)")
READ_OF = r"(\d+) {}windows?( \(all that the text holds, \d+ by default\))?"
CALIBRATION, HELD_OUT = re.compile(READ_OF.format("calibration ")), re.compile(READ_OF.format("") + ", ")


def disagreement(folder: Path, setting: Setting) -> str:
    """The first thing that does not fit, with its file in front; empty where everything does.

    Raises:
        BadOutput: a file cannot be read.
    """
    report = SearchReport.from_file(folder / SEARCH_FILE, BadOutput) if has(folder, SEARCH_FILE) else None
    scales = {
        name: ScalesFile.from_file(folder / name, BadOutput)
        for name in (KEPT_SCALES_FILE, *SEARCHED, ROTATED)
        if has(folder, name)
    }
    evaluations = {
        name: Evaluation.from_file(folder / name, BadOutput) for name in (EVALUATION_FILE, UNTUNED) if has(folder, name)
    }
    for problem in in_the_setting(setting):
        return f"{folder / MANIFEST_FILE}: {problem}"
    for name, content in scales.items():
        for problem in baseline_against(name, content, setting.search.mode) if name in (SMOOTH, MAD) else ():
            return f"{folder / name}: {problem}"
        for problem in _scales(content, setting, turned=name == ROTATED):
            return f"{folder / name}: {problem}"
    if report is not None:
        for problem in (*of_search(report), *_search(report, scales.get(FOUND_SCALES_FILE), setting)):
            return f"{folder / SEARCH_FILE}: {problem}"
    if report is not None and FOUND_SCALES_FILE in scales and report.method != "none":
        for problem in found_against(scales[FOUND_SCALES_FILE], report):
            return f"{folder / FOUND_SCALES_FILE}: {problem}"
    for name, evaluation in evaluations.items():
        for problem in (*of_evaluation(evaluation), *_evaluation(evaluation, setting)):
            return f"{folder / name}: {problem}"
    for problem in _diagnosis(folder / DIAGNOSIS_FILE, setting.diagnosis) if has(folder, DIAGNOSIS_FILE) else ():
        return f"{folder / DIAGNOSIS_FILE}: {problem}"
    for problem in _task_scores(folder / TASK_SCORES, setting) if has(folder, TASK_SCORES) else ():
        return f"{folder / TASK_SCORES}: {problem}"
    if KEPT_SCALES_FILE in scales and FOUND_SCALES_FILE in scales and report is not None:
        for problem in _kept_scales(
            scales[KEPT_SCALES_FILE], scales[FOUND_SCALES_FILE], report, evaluations.get(EVALUATION_FILE)
        ):
            return f"{folder / KEPT_SCALES_FILE}: {problem}"
    return ""


def _scales(content: ScalesFile, setting: Setting, *, turned: bool) -> Iterator[str]:
    """Made under the run's interpolation and quantizers, in its bands."""
    quant = rotated(setting.quant) if turned else setting.quant
    for noted, spec, word in ((content.rope, setting.rope, "rope"), (content.quantization, quant, "quantization")):
        yield from _differences(word, _plain(noted), None if spec is None else _plain(written(spec)))
    if len(content.bands) != setting.search.bands.count:
        yield f"bands: {len(content.bands)}, but the manifest has {setting.search.bands.count}"


def _search(report: SearchReport, found: ScalesFile | None, setting: Setting) -> Iterator[str]:
    spec = setting.search
    yield from bounds_against(report, spec)
    said = LENGTH.search(report.text)
    if said and spec.length and int(said[1]) != spec.length:
        yield f"text: windows of {said[1]} tokens, but the manifest has {spec.length}"
    if report.decision is not None and spec.length and report.decision.length > spec.length:
        yield f"decision.length: {report.decision.length}, but the manifest has {spec.length}"
    if report.method != "none":  # where scales cannot act, nothing is searched
        if report.method.partition(",")[0] != spec.method:
            yield f"method: another, but the manifest has {spec.method}"
        if report.objective != spec.objective and not (report.cancelled and report.objective == FIRST):
            yield f"objective: another, but the manifest has {spec.objective}"
        yield from _text(CALIBRATION, report.text, spec)
        yield from _candidates(report, spec)
        guard = GUARD.fullmatch(report.guard)
        if guard is not None and float(guard[5]) != spec.guard_tau:
            yield f"guard: allows {guard[5]}, but the manifest has {spec.guard_tau:g}"
        if found is not None and not found.is_identity:  # what the guard rejects leaves scales of 1, without either
            for name in switches():
                there, asked = name in found.kinds, name in spec.kinds
                if there != asked:
                    yield f"{name}: {FOUND_SCALES_FILE} has {'some' if there else 'none'}, but the manifest has {asked}"
    if found is not None and len(report.bounds) not in (1, found.model.layers):
        yield f"bounds: of {len(report.bounds)} layers, {FOUND_SCALES_FILE} has {found.model.layers}"
    if found is not None and len(report.bounds[0]) != len(found.bands):
        yield f"bounds: of {len(report.bounds[0])} bands, {FOUND_SCALES_FILE} has {len(found.bands)}"


def _text(read: re.Pattern[str], text: str, spec: SearchSpec | EvaluationSpec) -> Iterator[str]:
    """How many windows of which seed were read: never more than asked, and fewer only where the text holds no more."""
    if (said := read.match(text)) is not None:
        count, all_there_is = int(said[1]), bool(said[2])
        if count > spec.windows or (count < spec.windows and not all_there_is):
            yield f"text: {count} windows, but the manifest has {spec.windows}"
    if (noted := SEED.search(text)) is not None and int(noted[1]) != spec.seed:
        yield f"text: seed {noted[1]}, but the manifest has {spec.seed}"


def _candidates(report: SearchReport, spec: SearchSpec) -> Iterator[str]:
    """As many candidates as the method's own number says, or fewer where the search was cancelled."""
    points, method = swept(spec, spec.bands.count), search_methods()[spec.method]
    label, most = {
        FIRST: (method.label, method.count(spec, spec.bands.count)),
        "full": ("trial", spec.trials) if method.independent else ("sweep", min(spec.trials, points)),
        "kl": ("polish step", spec.polish_steps),
    }.get(report.objective, ("", 0))
    count = sum(bool(label) and one.label.startswith(label) for one in report.history)
    if count > most or (0 < count < most and not report.cancelled):
        yield f"history: {count} times {label}, but the manifest has {most}"


def _diagnosis(file: Path, spec: DiagnosisSpec) -> Iterator[str]:
    """Its length, windows and bands are those asked for. It may be large: it was validated, and is not kept."""
    found = read_json(file, Diagnosis.MOST)
    for name in ("length", "short_length"):
        if (asked := getattr(spec, name)) and found[name] != asked:
            yield f"{name}: {found[name]}, but the manifest has {asked}"
    for name in ("windows", "paired_tokens"):  # fewer where they would share tokens
        if found[name] > getattr(spec, name):
            yield f"{name}: {found[name]}, but the manifest has {getattr(spec, name)}"
    drawn = (found["dilation"].get("sample") or {}).get("seed")  # None: nothing was drawn, or an older file
    if drawn not in (None, spec.seed):
        yield f"dilation.sample.seed: {drawn}, but the manifest has {spec.seed}"
    if len(found["bands"]) != spec.bands.count:
        yield f"bands: {len(found['bands'])}, but the manifest has {spec.bands.count}"
    if not math.isclose(found["eps"], spec.eps, rel_tol=1e-5):
        yield f"eps: {found['eps']:g}, but the manifest has {spec.eps:g}"


def _task_scores(file: Path, setting: Setting) -> Iterator[str]:
    """Its length and seed are those of the command's options, which the manifest has as well."""
    found, spec = TaskScores.from_file(file, BadOutput), setting.search
    if found.length != spec.length:
        yield f"length: {found.length}, but the manifest has {spec.length}"
    if (seed := found.spec.get("seed", spec.seed)) != spec.seed:
        yield f"spec.seed: {seed}, but the manifest has {spec.seed}"


def _evaluation(evaluation: Evaluation, setting: Setting) -> Iterator[str]:
    """Its lengths, windows, targets, stride and remedies are those that the setting asks for."""
    spec = setting.evaluation
    yield from documents_against(evaluation.documents, setting.text)
    lengths = list(dict.fromkeys(row.length for row in evaluation.rows))
    if lengths != list(dict.fromkeys(spec.lengths)):
        yield f"rows: of {_listed(lengths)} tokens, but the manifest has {_listed(spec.lengths)}"
        return
    yield from _text(HELD_OUT, evaluation.text, spec)
    if "stride" in evaluation.model_fields_set and evaluation.stride != spec.stride:
        yield f"stride: {evaluation.stride}, but the manifest has {spec.stride}"
    counts = {len(values) for values in evaluation.window_nll.values()} | (
        {evaluation.gain.windows} if evaluation.gain else set()
    )
    for count in counts:
        if count > spec.windows:
            yield f"windows: {count}, but the manifest has {spec.windows}"
        targets = scored(spec, spec.lengths)[0]
        if evaluation.rows[0].tokens != count * targets:
            expected = f"{count} windows of {targets} targets"
            yield f"rows.0.tokens: {evaluation.rows[0].tokens}, but the manifest has {expected}"
    if evaluation.gain is not None and evaluation.gain.confidence != spec.confidence:
        yield f"gain.confidence: {evaluation.gain.confidence:g}, but the manifest has {spec.confidence:g}"
    there = {row.scales for row in evaluation.rows}
    if ("untied" in there) != bool(setting.rope.tie):
        held = "a model without a tie" if "untied" in there else "no model without a tie"
        yield f"rows: {held}, its manifest ties {len(setting.rope.tie)} groups of pairs"
    if "rotation" in there and not (spec.rotation or spec.rotation_scales):
        yield "rows: a rotation, which its manifest does not ask for"
    if "rotation_tuned" in there and not spec.rotation_scales:
        yield "rows: scales under a rotation, which its manifest does not ask for"


def _kept_scales(
    kept: ScalesFile, found: ScalesFile, report: SearchReport, evaluation: Evaluation | None
) -> Iterator[str]:
    """The scales kept are those found or identity: by the decision, and by what held-out text takes back."""
    is_found = all(getattr(kept, name) == getattr(found, name) for name in ("g", *switches()))
    is_identity = kept.is_identity
    if evaluation is None and report.chosen == "found" and is_identity:
        return  # an evaluation took them back, and its file was removed to be made again
    good = report.chosen == "found" and (evaluation is None or evaluation.gain is None or evaluation.gain.significant)
    if not (is_found if good else is_identity):
        what = "those found" if is_found else "identity" if is_identity else "neither those found nor identity"
        wanted = "those found are" if good else "identity is"
        yield f"g: {what}, {SEARCH_FILE} and {EVALUATION_FILE} say that {wanted} kept"


def _plain(noted: Any) -> Any:
    """A spec, or a field of one, as a file has it."""
    return json.loads(json.dumps(rounded(noted)))


def _differences(at: str, said: Any, wanted: Any) -> Iterator[str]:
    """What was noted otherwise. Options younger than a file are left out of it, and display names decide nothing."""
    if isinstance(said, dict) and isinstance(wanted, dict):
        for name, value in said.items():
            if name != "name":
                yield from _differences(f"{at}.{name}", value, wanted.get(name, _plain(YOUNGER.get(name))))
    elif said != wanted:
        yield f"{at}: {json.dumps(said)[:60]}, but the manifest has {json.dumps(wanted)[:60]}"


def _listed(lengths: Any) -> str:
    return ", ".join(map(str, lengths)) or "none"
