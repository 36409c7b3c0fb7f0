"""What the harness's documents say: differences between conditions, paired by document, and a sentence each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from qroar_core.harness.result import PAIRS, Change, Score
from qroar_core.number_of import number_of
from qroar_core.statistics.intervals import paired_interval
from qroar_core.statistics.proportions import mcnemar

Who = tuple[str, str]  # model, scales
Samples = Mapping[str, Sequence[Mapping[str, Any]]]  # task -> what the harness logs of each document and filter
CLOSE = 1e-9  # a metric is the mean over documents where it equals theirs
SAID = {
    "quantized - reference": ("quantization costs", "quantization adds", "quantization changes"),
    "tuned - quantized": ("the scales cost", "the scales recover", "the scales change"),
}


def changes(scores: Sequence[Score], samples: Mapping[Who, Samples], confidence: float) -> list[Change]:
    """Every metric that is a mean over documents, between the conditions that were asked."""
    by: dict[tuple[str, ...], float] = {
        (one.task, one.metric, one.filter, one.model, one.scales): one.value for one in scores
    }
    found = []
    for what, (one, other) in PAIRS.items():
        if one not in samples or other not in samples:
            continue
        for task, metric, chosen in dict.fromkeys((one.task, one.metric, one.filter) for one in scores):
            before, after = (
                _by_document(samples[who].get(task, ()), metric, chosen, by.get((task, metric, chosen, *who)))
                for who in (one, other)
            )
            if before and before.keys() == after.keys():
                pair = list(before.values()), [after[name] for name in before]
                found.append(_change((task, metric, chosen), what, *pair, confidence))
    return found


def _by_document(
    samples: Sequence[Mapping[str, Any]], metric: str, chosen: str, value: float | None
) -> dict[Any, float]:
    """A metric of every document; empty where the task's value is not their mean."""
    found = {s["doc_id"]: s.get(metric) for s in samples if s.get("filter") == chosen}
    if value is None or not found or not all(isinstance(x, Real) and math.isfinite(x) for x in found.values()):
        return {}
    numbers = {name: float(x) for name, x in found.items() if x is not None}
    mean = math.fsum(numbers.values()) / len(numbers)
    return numbers if math.isclose(mean, value, rel_tol=CLOSE, abs_tol=CLOSE) else {}


def _change(of: tuple[str, str, str], what: str, before: list[float], after: list[float], confidence: float) -> Change:
    apart = paired_interval(after, before, confidence)
    gained = lost = None
    if {*before, *after} <= {0.0, 1.0}:
        gained = sum(b > a for a, b in zip(before, after))
        lost = sum(b < a for a, b in zip(before, after))
    several = len(before) > 1
    return Change(
        task=of[0],
        metric=of[1],
        filter=of[2],
        what=what,  # type: ignore[arg-type]
        documents=len(before),
        mean=apart.mean,
        low=apart.low if several else None,
        high=apart.high if several else None,
        gained=gained,
        lost=lost,
        p_value=None if gained is None or lost is None else mcnemar(gained, lost),
    )


def sentences(found: Sequence[Change], higher: Mapping[tuple[str, str], bool | None], confidence: float) -> list[str]:
    """One sentence a change; a metric of shares in points of a hundred.

    Of documents that are right or wrong McNemar's test has to agree: where few change, or all alike, the interval of
    the mean is too narrow.
    """
    return [_sentence(one, higher.get((one.task, one.metric)), confidence) for one in found]


def _sentence(one: Change, higher: bool | None, confidence: float) -> str:
    share = one.gained is not None
    scale, unit, form = (100.0, " points", "+.2f") if share else (1.0, "", "+.4g")
    down, up, still = SAID[one.what]
    name = f"{one.task}, {one.metric}" + (f" ({one.filter})" if one.filter != "none" else "")
    if one.gained == one.lost == 0:
        return f"{name}: no answer of {number_of(one.documents, 'document')} changes from right to wrong or back"
    if one.low is None or one.high is None:
        return f"{name}: one document has no interval ({scale * one.mean:{form}}{unit})"
    low, high = scale * one.low, scale * one.high
    measured = (
        f"{scale * one.mean:{form}}{unit} [{low:{form}}, {high:{form}}] over {number_of(one.documents, 'document')}"
    )
    if share:
        measured += f", {one.gained} gained and {one.lost} lost"
    if low <= 0 <= high or (one.p_value is not None and one.p_value >= 1 - confidence):
        return f"{name}: {still} nothing significant, {measured}"
    better = None if higher is None else (one.mean > 0) == higher
    return f"{name}: {still if better is None else up if better else down} {measured}, significant"
