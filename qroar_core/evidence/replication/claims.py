"""The papers' claims as rules: from window means and a diagnosis to a figure, its interval and a verdict.

A claim holds where its whole interval lies on the claimed side of the threshold, does not hold where it lies on the
other side, and is undecided where the interval includes the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.diagnostics.tail_inflation.result import TailTable
from qroar_core.evidence.controls.result import Estimate
from qroar_core.evidence.replication.result import Claim, Name, Verdict
from qroar_core.harness.result import Change, TaskScores
from qroar_core.result import LayerBand, exp
from qroar_core.statistics.correlation import spearman
from qroar_core.statistics.intervals import Interval, mean_interval, paired_interval
from qroar_core.statistics.proportions import mcnemar

PAPER = "arXiv 2509.14391, 2510.00028"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is claimed, how it is tested here, and what the figure counts."""

    statement: str
    rule: str
    unit: str


CLAIMS: dict[Name, Rule] = {
    "amplified": Rule(
        "Interpolation amplifies the loss by quantization",
        "what quantization costs under the interpolation, less what it costs under the model's own RoPE in the same "
        "contexts within its native window: above 0",
        "nats",
    ),
    "amplified_long": Rule(
        "The loss grows past the native window",
        "what quantization costs at long context under the interpolation, less what it costs natively at short "
        "context, same target tokens: above 0",
        "nats",
    ),
    "pressure": Rule(
        "High-frequency bands are under more pressure",
        "Spearman's rho of a pair's frequency and its interpolation pressure in closed form: above 0",
        "rho",
    ),
    "weighted_pressure": Rule(
        "... also as the model's logits feel it",
        "Spearman's rho of a pair's frequency and how far this pair alone moves the logits, measured: above 0",
        "rho",
    ),
    "tails_k": Rule(
        "Tails of K grow with length",
        "far quantile of |k| after RoPE, long over short context, same tokens; geometric mean over cells, interval "
        "over layers: above 1",
        "times",
    ),
    "tails_q": Rule("Tails of Q grow with length", "the same of q: above 1", "times"),
    "short_context": Rule(
        "Symmetric scales keep short context",
        "what the tuned scales cost the quantized model at short context: below the tolerance",
        "nats",
    ),
    "perplexity": Rule(
        "7 to 21 % lower perplexity",
        "share of the quantized model's perplexity that the tuned scales cut at long context: at least 7 %",
        "%",
    ),
    "accuracy": Rule(
        "Up to 0.7 points more accuracy on standard tasks",
        "share of answers that are right with the tuned scales, less without them, under the quantizer, same "
        "documents of all tasks together: above 0, also by McNemar's test",
        "points",
    ),
}


def untestable(name: Name, why: str) -> Claim:
    """A claim this setting says nothing about."""
    return Claim(name=name, verdict="not testable here", value=None, detail=why)


def amplified(name: Name, here: Sequence[float], natively: Sequence[float], confidence: float, where: str) -> Claim:
    """Claims 1: `here` and `natively` are what quantization costs each window, nats."""
    found = paired_interval(here, natively, confidence)
    means = [math.fsum(costs) / len(costs) for costs in (here, natively)]
    detail = f"{means[0]:+.4f} nats under the interpolation, {means[1]:+.4f} natively, {where}"
    return Claim(name=name, verdict=above(found, 0.0), value=_estimate(found), detail=detail)


def pressure(name: Name, diagnosis: Diagnosis | None, confidence: float) -> Claim:
    """Claims 2: in closed form, or as the logits feel it."""
    if diagnosis is None:
        return untestable(name, "nothing was diagnosed")
    pairs = diagnosis.pairs
    felt = pairs.interpolation_pressure if name == "pressure" else pairs.logit_weighted_pressure
    found = spearman(pairs.native_inv_freq, felt, confidence)
    if found is None:
        return untestable(name, "every RoPE pair is under the same pressure")
    top = max(range(len(felt)), key=lambda i: felt[i])
    return Claim(
        name=name,
        verdict=above(Interval(found.rho, found.low, found.high, 0.0), 0.0),
        value=Estimate(mean=found.rho, low=found.low, high=found.high),
        detail=f"over {found.points} RoPE pairs; the highest pressure is on pair {top}, where 0 is the fastest",
    )


def tails(name: Name, diagnosis: Diagnosis | None, confidence: float) -> Claim:
    """Claims 3: tail inflation after RoPE, one mean of ln ratios a layer."""
    if diagnosis is None:
        return untestable(name, "nothing was diagnosed")
    table = diagnosis.tails[f"{name[-1]}/post"]
    per_layer = [_mean_log(layer) for layer in table.ratio]
    known = [value for value in per_layer if value is not None]
    if len(known) < 2:
        return untestable(name, "an interval over layers needs two of them")
    found = mean_interval(known, confidence)
    ratio = Estimate(mean=exp(found.mean), low=exp(found.low), high=exp(found.high))
    grown, shrunk, cells = _clear(table)
    detail = (
        f"{grown} of {cells} cells of layer, head and band clearly above 1, {shrunk} clearly below; "
        f"quantile {1 - diagnosis.eps:g}, {diagnosis.length} against {diagnosis.short_length} tokens"
    )
    return Claim(name=name, verdict=above(found, 0.0), value=ratio, detail=detail)


def short_context(
    identity: Sequence[float], tuned: Sequence[float], tolerance: float, confidence: float, length: int
) -> Claim:
    """Claim 4, as an equivalence: the whole interval of the cost below the tolerance."""
    cost = paired_interval(tuned, identity, confidence)
    detail = f"tolerance {tolerance:g} nats, at {length} tokens"
    return Claim(name="short_context", verdict=below(cost, tolerance), value=_estimate(cost), detail=detail)


def perplexity(
    identity: Sequence[float], tuned: Sequence[float], least: float, confidence: float, length: int, note: str = ""
) -> Claim:
    """Claim 5: share of the perplexity cut, 1 - exp(-gain), against the least share claimed. `note` goes first."""
    gain = paired_interval(identity, tuned, confidence)
    mean, low, high = (_cut(nats) for nats in (gain.mean, gain.low, gain.high))
    cut = Interval(mean, low, high, 0.0)
    shown = Estimate(mean=100 * cut.mean, low=100 * cut.low, high=100 * cut.high)
    detail = f"{note}{gain.mean:+.4f} nats at {length} tokens"
    return Claim(name="perplexity", verdict=above(cut, least), value=shown, detail=detail)


def accuracy(found: TaskScores, confidence: float) -> Claim:
    """Claim 6: the first metric of each task whose answers are right or wrong, over the documents of all tasks."""
    first: dict[str, Change] = {}
    for one in found.changes:
        if one.what == "tuned - quantized" and one.gained is not None:
            first.setdefault(one.task, one)
    documents = sum(one.documents for one in first.values())
    if documents < 2:
        return untestable("accuracy", "no task has answers that are right or wrong, of two documents or more")
    gained, lost = (sum(getattr(one, name) for one in first.values()) for name in ("gained", "lost"))
    each = [f"{task} {100 * one.mean:+.2f} ({one.metric})" for task, one in first.items()]
    detail = f"{gained} of {documents} answers gained, {lost} lost; {', '.join(each)}; {found.text}"
    if not gained + lost:  # no interval: answers that are all alike have no spread to judge the next ones by
        return Claim(name="accuracy", verdict="undecided", value=None, detail=detail)
    apart = mean_interval([1.0] * gained + [-1.0] * lost + [0.0] * (documents - gained - lost), confidence)
    verdict = above(apart, 0.0) if mcnemar(gained, lost) < 1 - confidence else "undecided"
    shown = Estimate(mean=100 * apart.mean, low=100 * apart.low, high=100 * apart.high)
    return Claim(name="accuracy", verdict=verdict, value=shown, detail=detail)


def _cut(gain: float) -> float:
    """1 - exp(-gain), exact near zero; minus infinity where the perplexity grows past every float."""
    return -math.expm1(-gain) if gain > -1 else 1 - exp(-gain)


def above(found: Interval, threshold: float) -> Verdict:
    """Where an interval lies against a threshold it is claimed to exceed."""
    if found.low > threshold:
        return "holds"
    return "does not hold" if found.high < threshold else "undecided"


def below(found: Interval, threshold: float) -> Verdict:
    """Where an interval lies against a threshold it is claimed to stay under."""
    if found.high < threshold:
        return "holds"
    return "does not hold" if found.low > threshold else "undecided"


def _mean_log(layer: LayerBand) -> float | None:
    logs = [math.log(ratio) for head in layer for ratio in head if ratio]
    return math.fsum(logs) / len(logs) if logs else None


def _clear(table: TailTable) -> tuple[int, int, int]:
    """Cells whose interval lies above 1, below 1, and all cells with one."""
    ends = [
        (low, high)
        for lows, highs in zip(table.low, table.high, strict=True)
        for low_bands, high_bands in zip(lows, highs, strict=True)
        for low, high in zip(low_bands, high_bands, strict=True)
        if low is not None and high is not None
    ]
    return sum(low > 1 for low, _ in ends), sum(high < 1 for _, high in ends), len(ends)


def _estimate(found: Interval) -> Estimate:
    return Estimate(mean=found.mean, low=found.low, high=found.high)
