"""What an evaluation's window means say: the gain, repair against retuning, the rotation. Numbers in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qroar_core.evaluation.gap import Share, share_of_gap
from qroar_core.evaluation.result import Attribution, DocumentGain, Gain, PositionCurve, RotationFinding, TieFinding
from qroar_core.statistics.intervals import NO_GAIN, Interval, clustered_interval, paired_interval

Means = dict[str, list[float]]  # "model/scales" -> mean NLL of each window, nats


def findings(nll: Means, length: int, confidence: float, documents: Sequence[str] = (), where: str = "") -> dict:
    """The finding fields of an `Evaluation` from the longest length's window means.

    Args:
        documents: the document of each window; empty: not known.
        where: documents, windows and scored tokens in words; empty: only the length is said.
    """
    where = f"on {where}" if where else f"at {length} tokens"
    before, ref = nll.get("quantized/identity"), nll["reference/identity"]
    tuned, ref_tuned = nll.get("quantized/tuned"), nll.get("reference/tuned")
    out: dict = {"gain": None, "attribution": None, "gap_recovered": None, "tie": tie(nll, confidence)}
    if documents:
        out["documents"] = list(documents)
    if before is None:
        return out | {"sentence": "nothing is quantized"}
    gap = paired_interval(before, ref, confidence)
    smooth = nll.get("quantized/smooth_attention")
    if smooth is not None and gap.mean > 0:
        out["smooth_attention_gap_recovered"] = paired_interval(before, smooth).mean / gap.mean
    out["rotation"] = rotation(nll, gap, length, confidence)
    if tuned is None or ref_tuned is None:
        return out | {"sentence": f"quantization costs {gap.mean:+.4f} nats per token {where}; nothing tuned"}
    gain = paired_interval(before, tuned, confidence)
    retuning = paired_interval(ref, ref_tuned, confidence)
    repair = paired_interval(
        [a - b for a, b in zip(before, tuned, strict=True)],
        [a - b for a, b in zip(ref, ref_tuned, strict=True)],
        confidence,
    )
    significant = gain.above_zero
    recovered = gain.mean / gap.mean if gap.above_zero else None
    share = None if recovered is None else Share(recovered, share_of_gap(before, tuned, ref, confidence), significant)
    return out | {
        "gain": Gain(
            length=length,
            delta_nll=gain.mean,
            ci_low=gain.low,
            ci_high=gain.high,
            significant=significant,
            windows=len(before),
            confidence=confidence,
        ),
        "attribution": Attribution(
            quantization_repair=repair.mean,
            retuning=retuning.mean,
            repair_ci_low=repair.low,
            repair_ci_high=repair.high,
            retuning_ci_low=retuning.low,
            retuning_ci_high=retuning.high,
        ),
        "gain_by_document": by_document(before, tuned, documents, confidence) if documents else None,
        "gap_recovered": recovered,
        "sentence": _gain_sentence(significant, gain, share, where),
    }


def by_document(
    before: Sequence[float], tuned: Sequence[float], documents: Sequence[str], confidence: float
) -> DocumentGain | None:
    """The gain with documents as the unit; None with fewer than three of them."""
    won = clustered_interval([a - b for a, b in zip(before, tuned, strict=True)], documents, confidence)
    if won is None:
        return None
    count = len(set(documents))
    verb = "remains significant" if won.above_zero else "is not significant"
    return DocumentGain(
        documents=count,
        delta_nll=won.mean,
        ci_low=won.low,
        ci_high=won.high,
        significant=won.above_zero,
        sentence=f"counted over {count} documents instead of {len(before)} windows, the gain {verb}: {_measured(won)}",
    )


def rotation(nll: Means, gap: Interval, length: int, confidence: float) -> RotationFinding | None:
    """What a Hadamard rotation recovers, and what scales add on top of it; None where it was not measured.

    Args:
        gap: quantized identity minus reference, nats.
    """
    before, turned = nll.get("quantized/identity"), nll.get("quantized/rotation")
    if before is None or turned is None:
        return None
    won = paired_interval(before, turned, confidence)
    recovered = won.mean / gap.mean if gap.above_zero else None
    head = f"a Hadamard rotation recovers {_measured(won)} at {length} tokens"
    if recovered is not None:
        head += f", {recovered:.0%} of what quantization lost"
    if won.below_zero:
        head = f"a Hadamard rotation costs {_measured(_as_cost(won))} at {length} tokens"
    elif not won.excludes_zero:
        head = f"a Hadamard rotation changes nothing significant ({_measured(won)} at {length} tokens)"
    both = nll.get("quantized/rotation_tuned")
    if both is None:
        return RotationFinding(delta_nll=won.mean, ci_low=won.low, ci_high=won.high, recovered=recovered, sentence=head)
    on_top = paired_interval(turned, both, confidence)
    if on_top.above_zero:
        tail = f"scales searched under it add {_measured(on_top)} on top"
    elif on_top.below_zero:
        tail = f"scales searched under it cost {_measured(_as_cost(on_top))} on top"
    else:
        tail = f"scales searched under it add nothing significant ({_measured(on_top)})"
    return RotationFinding(
        delta_nll=won.mean,
        ci_low=won.low,
        ci_high=won.high,
        recovered=recovered,
        added=on_top.mean,
        added_ci_low=on_top.low,
        added_ci_high=on_top.high,
        sentence=f"{head}; {tail}",
    )


def tie(nll: Means, confidence: float) -> TieFinding | None:
    """What tied pairs cost in full precision, and the tuned scales counted from the model without a tie.

    None where nothing was measured without a tie.
    """
    untied = nll.get("reference/untied")
    if untied is None:
        return None
    cost = paired_interval(nll["reference/identity"], untied, confidence)
    verb = "costs" if cost.above_zero else "gains" if cost.below_zero else "changes nothing significant:"
    shown = _as_cost(cost) if cost.below_zero else cost
    sentence = f"tying the pairs alone {verb} {_measured(shown)} without a quantizer"
    ends = {"cost": cost.mean, "cost_low": cost.low, "cost_high": cost.high}
    before, tuned = nll.get("quantized/untied"), nll.get("quantized/tuned")
    if before is None or tuned is None:
        return TieFinding(**ends, sentence=sentence)
    gain = paired_interval(before, tuned, confidence)
    lost = paired_interval(before, untied, confidence)
    recovered = gain.mean / lost.mean if lost.above_zero else None
    said = "gain" if gain.above_zero else "lose" if gain.below_zero else "change nothing significant:"
    counted = _measured(_as_cost(gain) if gain.below_zero else gain)
    share = "" if recovered is None or not gain.above_zero else f", {recovered:.0%} of what quantization costs there"
    return TieFinding(
        **ends,
        delta_nll=gain.mean,
        ci_low=gain.low,
        ci_high=gain.high,
        recovered=recovered,
        sentence=f"{sentence}; counted from the model without a tie, tie and scales together {said} {counted}{share}",
    )


def position_curve(
    position: list[int], per_window: Mapping[str, Sequence[Sequence[float]]], confidence: float
) -> PositionCurve:
    """NLL by position, and each condition's cost above the reference with its paired interval at every point.

    Args:
        per_window: "model/scales" -> (windows, points) mean NLL, nats.
    """
    columns = {name: list(zip(*rows, strict=True)) for name, rows in per_window.items()}
    reference = columns["reference/identity"]
    costs = {
        name: [paired_interval(mine, ref, confidence) for mine, ref in zip(points, reference, strict=True)]
        for name, points in columns.items()
        if name != "reference/identity"
    }
    return PositionCurve(
        position=position,
        curves={name: [sum(point) / len(point) for point in points] for name, points in columns.items()},
        cost_low={name: [c.low for c in found] for name, found in costs.items()},
        cost_high={name: [c.high for c in found] for name, found in costs.items()},
    )


def _as_cost(won: Interval) -> Interval:
    """What is won as what it costs."""
    return Interval(-won.mean, -won.high, -won.low, won.se)


def _measured(interval: Interval) -> str:
    return f"{interval.mean:+.4f} nats [{interval.low:+.4f}, {interval.high:+.4f}]"


def _gain_sentence(significant: bool, gain: Interval, share: Share | None, where: str) -> str:
    if not significant:
        return f"{NO_GAIN} ({_measured(gain)} {where})"
    lost = "" if share is None else f", {share.measured} of what quantization lost,"
    return f"significant gain: {_measured(gain)}{lost} {where}"
