"""What retrieval trials say: counts and intervals by cell, paired differences, and a sentence a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qroar_core.retrieval.result import Cell, Difference, Finding, Task, Trial
from qroar_core.statistics.intervals import mean_interval
from qroar_core.statistics.proportions import mcnemar, wilson

REFERENCE, QUANTIZED, TUNED = ("reference", "identity"), ("quantized", "identity"), ("quantized", "tuned")
CONDITIONS = (REFERENCE, QUANTIZED, TUNED)
PAIRS = {"quantized - reference": (REFERENCE, QUANTIZED), "tuned - quantized": (QUANTIZED, TUNED)}
TASK_WORDS = {"passkey": "Passkey", "needles": "Needles"}
Place = tuple[int | None, float | None]  # length and depth; (None, None): everywhere
EVERYWHERE: Place = (None, None)


def findings(
    tasks: Sequence[Task],
    places: Sequence[tuple[int, float]],
    trials: Sequence[Trial],
    unfit: Counter[tuple[Task, int, float]],
    choices: int,
    confidence: float,
) -> dict:
    """The `cells`, `differences` and `findings` of a `Retrieval`.

    Args:
        places: (length, depth) of the cells.
        trials: of every condition; the same trials for each.
        unfit: prompts that did not fit, by (task, length, depth).
    """
    out: dict[str, list] = {"cells": [], "differences": [], "findings": []}
    for task in tasks:
        mine = [t for t in trials if t.task == task]
        all_unfit = sum(count for (of, _, _), count in unfit.items() if of == task)
        counts = {(length, depth): unfit[task, length, depth] for length, depth in places} | {EVERYWHERE: all_unfit}
        for place, left in counts.items():
            here = [t for t in mine if place in (EVERYWHERE, (t.length, t.depth))]
            by = {who: [t for t in here if (t.model, t.scales) == who] for who in CONDITIONS}
            asked = [who for who in CONDITIONS if any((t.model, t.scales) == who for t in trials)]
            out["cells"] += [_cell(task, place, who, by[who], left, confidence) for who in asked or [REFERENCE]]
            out["differences"] += [
                _difference(task, place, what, by[one], by[other], confidence)
                for what, (one, other) in PAIRS.items()
                if one in asked and other in asked
            ]
        out["findings"].append(_finding(task, out["cells"], out["differences"], 1 / choices))
    return out


def _cell(task: Task, place: Place, who: tuple[str, str], trials: list[Trial], unfit: int, confidence: float) -> Cell:
    n, hits = len(trials), sum(t.outcome == "hit" for t in trials)
    chosen = sum(t.rank == 1 for t in trials)
    hit_low, hit_high = wilson(hits, n, confidence) or (None, None)
    chosen_low, chosen_high = wilson(chosen, n, confidence) or (None, None)
    mean, low, high = _mean([t.log_prob for t in trials], confidence)
    margin, margin_low, margin_high = _mean([t.margin for t in trials], confidence)
    return Cell(
        task=task,
        length=place[0],
        depth=place[1],
        model=who[0],  # type: ignore[arg-type]
        scales=who[1],  # type: ignore[arg-type]
        trials=n,
        unfit=unfit,
        hits=hits,
        cut_off=sum(t.outcome == "cut off" for t in trials),
        no_number=sum(t.outcome == "no number" for t in trials),
        hit_low=hit_low,
        hit_high=hit_high,
        chosen=chosen,
        chosen_low=chosen_low,
        chosen_high=chosen_high,
        log_prob=mean,
        log_prob_low=low,
        log_prob_high=high,
        margin=margin,
        margin_low=margin_low,
        margin_high=margin_high,
    )


def _difference(
    task: Task, place: Place, what: str, before: list[Trial], after: list[Trial], confidence: float
) -> Difference:
    return Difference(
        task=task,
        length=place[0],
        depth=place[1],
        what=what,  # type: ignore[arg-type]
        **compared(before, after, confidence),
    )


def compared(before: Sequence[Trial], after: Sequence[Trial], confidence: float) -> dict:
    """What a `Difference` counts: `after` less `before`, trial by trial."""
    pairs = list(zip(before, after, strict=True))
    mean, low, high = _mean([b.log_prob - a.log_prob for a, b in pairs], confidence)
    gained = sum(b.outcome == "hit" and a.outcome != "hit" for a, b in pairs)
    lost = sum(a.outcome == "hit" and b.outcome != "hit" for a, b in pairs)
    return {
        "trials": len(pairs),
        "log_prob": mean,
        "log_prob_low": low,
        "log_prob_high": high,
        "gained": gained,
        "lost": lost,
        "p_value": mcnemar(gained, lost),
    }


def _mean(values: list[float], confidence: float) -> tuple[float | None, float | None, float | None]:
    """Mean and its interval; one value has none."""
    if not values:
        return None, None, None
    found = mean_interval(values, confidence)
    return (found.mean, found.low, found.high) if len(values) > 1 else (found.mean, None, None)


def _finding(task: Task, cells: list[Cell], differences: list[Difference], chance: float) -> Finding:
    total: dict[tuple[str, str], Cell] = {(c.model, c.scales): c for c in cells if c.task == task and c.length is None}
    apart = {d.what: d for d in differences if d.task == task and d.length is None}
    said = [_retrieved(total, chance)]
    cost, gain = apart.get("quantized - reference"), apart.get("tuned - quantized")
    if total[REFERENCE].trials:
        if cost is None:
            said.append("nothing is quantized")
        else:
            said.append(_moved(cost, "quantization costs", "quantization adds", "quantization moves the answer by"))
        if gain is not None:
            said.append(_moved(gain, "the scales cost", "the scales recover", "the scales recover"))
    return Finding(
        task=task,
        sentence=f"{TASK_WORDS[task]}: {'; '.join(said)}",
        significant=gain is not None and _above_zero(gain.log_prob_low) and _knows(total[REFERENCE]),
    )


def _retrieved(total: dict[tuple[str, str], Cell], chance: float) -> str:
    """By generation; and where the reference has nothing to lose that way, whether it still knows the number."""
    reference = total[REFERENCE]
    n = reference.trials
    if not n:
        return f"no prompt fits into these lengths ({reference.unfit} tried): choose longer ones"
    left = f" ({reference.unfit} more prompts did not fit)" if reference.unfit else ""
    if reference.hits:
        words = {REFERENCE: "the reference finds", QUANTIZED: "the quantized model", TUNED: "with scales"}
        counts = [f"{words[who]} {cell.hits} of {n}{_unanswered(cell)}" for who, cell in total.items()]
        return f"by generation {', '.join(counts)}{left}"
    head = (
        f"the reference itself does not retrieve: 0 of {n} by generation{_unanswered(reference)}{left}, so this model "
        "cannot show a loss that way"
    )
    margin, low, high = reference.margin, reference.margin_low, reference.margin_high
    if margin is None or low is None or high is None:
        return head
    measured = f"{margin:+z.3f} nats per answer token [{low:+z.3f}, {high:+z.3f}] above other numbers"
    first = f"likeliest in {reference.chosen / n:.0%} of trials, chance {chance:.0%}"
    if low > 0:
        return f"{head}; yet its log-probability leans to the hidden number: {measured}, {first}"
    beside = ", so the differences that follow are not about retrieval" if len(total) > 1 else ""
    return f"{head}; nor does its log-probability lean to the hidden number ({measured}, {first}){beside}"


def _knows(reference: Cell) -> bool:
    """Is there anything to lose: does it answer, or lean to the hidden number?"""
    return reference.hits > 0 or _above_zero(reference.margin_low)


def _above_zero(low: float | None) -> bool:
    return low is not None and low > 0


def _unanswered(cell: Cell) -> str:
    """Misses that the token budget may have made."""
    said = [f"{cell.cut_off} cut off"] if cell.cut_off else []
    said += [f"{cell.no_number} without a number"] if cell.no_number else []
    return f" ({', '.join(said)})" if said else ""


def _moved(apart: Difference, down: str, up: str, still: str) -> str:
    mean, low, high = apart.log_prob, apart.log_prob_low, apart.log_prob_high
    if mean is None or low is None or high is None:
        return f"{still} an amount that one trial cannot measure"
    if high < 0:
        return f"{down} {-mean:.3f} nats per answer token [{-high:.3f}, {-low:.3f}], significant"
    measured = f"{mean:+z.3f} nats per answer token [{low:+z.3f}, {high:+z.3f}]"
    return f"{up} {measured}, significant" if low > 0 else f"{still} nothing significant ({measured})"
