"""Points from a folder of runs: what each run's evaluation, comparisons and retrieval say of its cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qroar_core.errors import BadOutput, QRoarError
from qroar_core.evaluation.result import Evaluation
from qroar_core.interpolations.rope_file import rope_text
from qroar_core.models.geometry import Geometry
from qroar_core.remedies.applicable import PLAIN
from qroar_core.remedies.layer_memory import cache_bytes
from qroar_core.remedies.result import Comparison
from qroar_core.result import Result
from qroar_core.retrieval.result import Retrieval, Trial
from qroar_core.runs.folder import RETRIEVALS, UNTUNED, answers_of, has
from qroar_core.runs.record import RunRecord, read_record
from qroar_core.specs import QuantSpec
from qroar_core.specs.labels import quant_words
from qroar_core.specs.tradeoff import Loss
from qroar_core.statistics.intervals import ends_of_kl, paired_interval
from qroar_core.statistics.proportions import wilson
from qroar_core.tradeoffs.measured import Measured, geometry_at, quant_under
from qroar_core.tradeoffs.point import NO_REMEDY, Point, SetupKey
from qroar_core.tradeoffs.read_sweep import REFERENCE, digest, finite

UNQUANTIZED = "unquantized cache"
CONDITIONS = {  # of an evaluation -> the remedy; the scales found are named by what was searched
    "quantized/identity": NO_REMEDY,
    "quantized/tuned": "scales",
    "quantized/smooth_attention": "smooth_attention",
    "quantized/rotation": "rotation",
    "quantized/rotation_tuned": "rotation+scales",
}


def read_runs(folder: Path, loss: Loss) -> Measured:
    """Every run below `folder`, the newest first where several measured the same.

    Raises:
        BadOutput: no run is there, or none with such a loss.
    """
    paths = [path for path in sorted(folder.iterdir()) if path.is_dir() and has(path, "manifest.json")]
    do = "give what `sweep --out` wrote, or a folder that holds run folders"
    if not paths:
        raise BadOutput("holds neither a sweep nor runs", where=str(folder), do=do)
    found = Measured(loss, where=str(folder))
    for entry in sorted(map(_record, paths), key=lambda one: one.date, reverse=True):
        if entry.setting is None:
            found.note(f"A run is left out: {entry.problem}")
            continue
        try:
            _take(found, entry, geometry_at(entry.source))
        except QRoarError as problem:
            found.note(f"{entry.name} is left out: {problem}")
    if not found.points:
        what = {"nll": "an evaluation", "kl": "an evaluation with a KL", "needles": "a retrieval test"}[loss]
        said = "; ".join(found.notes)
        raise BadOutput(f"no run in it has {what}{f' ({said})' * bool(said)}", where=str(folder), do=do)
    return found


def _record(path: Path) -> RunRecord:
    return read_record(path, thorough=False)


def _take(found: Measured, entry: RunRecord, geometry: Geometry) -> None:
    """Points of one run that no newer run has."""
    for key, point in _points(entry, geometry, found.loss):
        mine = found.points.setdefault(key, [])
        if all((one.quantizer, one.remedy) != (point.quantizer, point.remedy) for one in mine):
            mine.append(point)


def _points(entry: RunRecord, geometry: Geometry, loss: Loss) -> Iterator[tuple[SetupKey, Point]]:
    files: list[tuple[str, type[Result]]] = [("evaluation.json", Evaluation), (UNTUNED, Evaluation)]
    files += [(name, Comparison) for name in answers_of(entry.path, "compare")] if loss == "nll" else []
    if loss == "needles":
        files = [(name, Retrieval) for name in RETRIEVALS.values()]
    for name, kind in files:
        if not has(entry.path, name):
            continue
        result = kind.from_file(entry.path / name, BadOutput)
        if isinstance(result, Evaluation):
            found = _evaluated(entry, result, loss)
        elif isinstance(result, Comparison):
            found = _compared(entry, result)
        else:
            assert isinstance(result, Retrieval)
            found = _retrieved(entry, result)
        for length, point in found:
            assert entry.setting is not None
            quant = entry.setting.quant if point.quantized else QuantSpec()
            remedy = point.remedy.partition("+")[0]
            under = quant_under(quant, remedy, point.kept_layers)
            size = cache_bytes(geometry, under, length)
            yield _key(entry, length), replace(point, bytes_per_token=size, run=entry.path)


def _key(entry: RunRecord, length: int) -> SetupKey:
    setting = entry.setting
    assert setting is not None
    rope = json.loads(rope_text(setting.rope))
    options = " ".join(f"{name}={value}" for name, value in rope.items() if name not in ("method", "factor"))
    seed = setting.evaluation.seed
    return SetupKey(entry.model, setting.rope.method, setting.rope.factor, options, length, setting.text, seed)


def _format(entry: RunRecord) -> str:
    assert entry.setting is not None
    return quant_words(entry.setting.quant)


def _evaluated(entry: RunRecord, found: Evaluation, loss: Loss) -> Iterator[tuple[int, Point]]:
    """Every condition at every length, and the unquantized model at none lost."""
    assert entry.setting is not None
    kinds, kept = entry.setting.search.kinds, entry.kept()
    searched = "+".join(["scales", *sorted(kinds)])
    for row in found.rows:
        condition = f"{row.model}/{row.scales}"
        reference = tuple(found.window_nll.get(f"{row.length}/{REFERENCE}", ()))
        mine = tuple(found.window_nll.get(f"{row.length}/{condition}", ()))
        if not reference or len(mine) != len(reference):
            continue
        if condition == REFERENCE:
            zeros, sample = tuple(0.0 for _ in reference), digest(reference)
            yield row.length, Point(UNQUANTIZED, NO_REMEDY, 0.0, 0.0, 0.0, 0.0, zeros, sample, quantized=False)
            continue
        if condition not in CONDITIONS or (loss == "kl" and row.kl_mean is None):
            continue
        tuned = row.scales == "tuned"
        identity = tuned and kept is not None and _is_identity(kept.g)
        remedy = searched if tuned else CONDITIONS[condition]
        if loss == "nll":
            point = _of_windows(_format(entry), remedy, mine, reference)
        else:
            value, error = row.kl_mean or 0.0, row.close.kl_mean_se if row.close else None
            units = tuple(found.window_kl.get(f"{row.length}/{condition}", ()))
            ends, sample = ends_of_kl(value, error, len(mine)), digest(reference) if units else ""
            point = Point(_format(entry), remedy, 0.0, value, *ends, units, sample)
        yield row.length, replace(point, served=not identity)


def _of_windows(name: str, remedy: str, mine: Sequence[float], reference: Sequence[float]) -> Point:
    """What the windows of a condition lose, with its interval; one window alone has none."""
    one = paired_interval(mine, reference)
    units = tuple(a - b for a, b in zip(mine, reference, strict=True))
    return Point(name, remedy, 0.0, one.mean, finite(one.low), finite(one.high), units, digest(tuple(reference)))


def _is_identity(g: list) -> bool:
    return all(_is_identity(inner) if isinstance(inner, list) else inner == 1 for inner in g)


def _compared(entry: RunRecord, found: Comparison) -> Iterator[tuple[int, Point]]:
    """Every remedy of a comparison; the plain quantizer has its row in the evaluation too."""
    for row in found.rows:
        remedy = NO_REMEDY if row.key == PLAIN else row.key.replace(f"{PLAIN}+", "scales", 1)
        point = _of_windows(_format(entry), remedy, row.window_nll, found.reference_window_nll)
        yield found.length, replace(point, kept_layers=tuple(row.kept_layers))


def _retrieved(entry: RunRecord, found: Retrieval) -> Iterator[tuple[int, Point]]:
    """The share of hidden numbers that each condition does not write, over all tasks and depths of a length."""
    for length in found.lengths:
        trials: dict[tuple[str, str], list[Trial]] = {}
        for one in found.trials:
            if one.length == length:
                trials.setdefault((one.model, one.scales), []).append(one)
        for (model, scales), mine in trials.items():
            mine.sort(key=lambda one: (one.task, one.depth, one.trial))
            missed = tuple(float(one.outcome != "hit") for one in mine)
            ends = wilson(int(sum(missed)), len(missed), found.confidence)
            low, high = ends if ends is not None else (None, None)
            asked = tuple((one.task, one.depth, one.trial, one.answer) for one in mine)
            quantized = model != "reference"
            name = _format(entry) if quantized else UNQUANTIZED
            remedy = "scales" if scales == "tuned" else NO_REMEDY
            loss = sum(missed) / len(missed)
            point = Point(name, remedy, 0.0, loss, low, high, missed, digest(asked), quantized=quantized)
            yield length, point
