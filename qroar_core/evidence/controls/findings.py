"""What the controls' window means say. Numbers in, intervals and sentences out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qroar_core.evaluation.findings import by_document
from qroar_core.evaluation.result import DocumentGain
from qroar_core.evidence.controls.result import Control, ControlFinding, Estimate, Kind, Precision
from qroar_core.specs import Mode
from qroar_core.specs.labels import TEXT_WORDS
from qroar_core.statistics.intervals import NO_GAIN, paired_interval

Draws = Sequence[Sequence[float]]  # [draw][window], mean NLL in nats
Means = Mapping[str, Draws]
REFERENCE, QUANTIZED = "reference/identity", "quantized/identity"
TUNED, UNQUANTIZED = "quantized/tuned", "reference/tuned"
KINDS: dict[str, Kind] = {
    TUNED: "tuned",
    UNQUANTIZED: "unquantized",
    "shuffled bands": "bands",
    "shuffled heads": "heads",
    "other seeds": "seed",
}
NAMES = {
    TUNED: "the tuned scales",
    UNQUANTIZED: "the same on the unquantized model",
    "shuffled bands": "shuffled among the bands of each head",
    "shuffled heads": "shuffled among heads and layers",
    "other seeds": "searched with other seeds",
}
SEARCHED_ON = "searched on "  # and the name of a text
ROUNDING = 1e-3  # nats that rounding scaled weights may move the unquantized model
NOTABLE = 0.1  # share of quantization's cost from which a number format's own loss spoils it as a reference


def controls_of(nll: Means, confidence: float) -> list[Control]:
    """Every condition with scales, the tuned ones first; any other name is a text the scales were searched on."""
    before = {"quantized": nll[QUANTIZED][0], "reference": nll[REFERENCE][0]}
    tuned = nll[TUNED][0]
    out = []
    for name, draws in nll.items():
        if name in (REFERENCE, QUANTIZED):
            continue
        kind, mean = KINDS.get(name, "text"), _mean(draws)
        here = before["reference" if kind == "unquantized" else "quantized"]
        each = [_average(here) - _average(draw) for draw in draws]
        out.append(
            Control(
                kind=kind,
                name=NAMES.get(name, f"{SEARCHED_ON}{name}"),
                draws=len(draws),
                gain=paired(here, mean, confidence),
                least=min(each),
                most=max(each),
                lost=None if kind in ("tuned", "unquantized") else paired(mean, tuned, confidence),
            )
        )
    return sorted(out, key=lambda control: control.kind != "tuned")


def precision_of(
    dtype: str, nll: Means, loaded_reference: Sequence[float], confidence: float, *, loaded: bool
) -> Precision:
    """One number format, from the window means of its reference, quantized and tuned model."""
    reference, before, after = (nll[name][0] for name in (REFERENCE, QUANTIZED, TUNED))
    if not all(math.isfinite(v) for v in (*reference, *before, *after)):
        return Precision(dtype=dtype, loaded=loaded, problem="its numbers overflow: the NLL is not finite")
    return Precision(
        dtype=dtype,
        loaded=loaded,
        reference=None if loaded else paired(reference, loaded_reference, confidence),
        cost=paired(before, reference, confidence),
        gain=paired(before, after, confidence),
        above=paired(after, reference, confidence),
    )


def counted(nll: Means, documents: Sequence[str], confidence: float) -> DocumentGain | None:
    """The gain of the tuned scales with documents as the unit, as an evaluation counts it."""
    return by_document(nll[QUANTIZED][0], nll[TUNED][0], documents, confidence) if documents else None


def findings(
    controls: Sequence[Control], precisions: Sequence[Precision], mode: Mode, over: DocumentGain | None = None
) -> list[ControlFinding]:
    """One sentence a control, one about the number formats.

    Args:
        over: the tuned gain over documents; None where they are not known or fewer than three.
    """
    by_kind = {control.kind: control for control in controls}
    tuned = by_kind["tuned"].gain
    said = [_tuned(tuned, over)]
    for control in controls:
        if control.kind == "unquantized":
            said.append(_unquantized(control.gain, tuned, mode))
        elif control.kind in ("bands", "heads"):
            said.append(_shuffled(control))
        elif control.kind in ("text", "seed"):
            said.append(_searched(control, tuned))
    return said + [_precisions(precisions)] if precisions else said


def paired(before: Sequence[float], after: Sequence[float], confidence: float) -> Estimate:
    """before - after, paired window by window."""
    found = paired_interval(before, after, confidence)
    return Estimate(mean=found.mean, low=found.low, high=found.high)


def measured(found: Estimate) -> str:
    """`+0.1234 nats [+0.1000, +0.1500]`."""
    return f"{found.mean:+z.4f} nats [{found.low:+z.4f}, {found.high:+z.4f}]"


def _mean(draws: Draws) -> list[float]:
    return [_average(window) for window in zip(*draws, strict=True)]


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _tuned(gain: Estimate, over: DocumentGain | None) -> ControlFinding:
    """Windows of one document are alike: a gain that documents do not bear out is none that stands."""
    if not gain.above_zero:
        return ControlFinding(about="tuned", sentence=f"{NO_GAIN} ({measured(gain)})", good=None)
    words = f"the tuned scales gain {measured(gain)}"
    if over is not None and not over.significant:
        return ControlFinding(about="tuned", sentence=f"{words}. But {over.sentence}", good=None)
    return ControlFinding(about="tuned", sentence=words + (f"; {over.sentence}" if over else ""), good=True)


def _unquantized(gain: Estimate, tuned: Estimate, mode: Mode) -> ControlFinding:
    still = abs(gain.mean) <= ROUNDING
    if mode == "symmetric":
        words = (
            f"on the unquantized model the same scales change nothing ({measured(gain)}), as symmetric ones must: "
            "what they gain is repair of quantization"
            if still
            else f"on the unquantized model the same scales change {measured(gain)}, where symmetric ones must change "
            "nothing: they are not exact in this number format"
        )
        return ControlFinding(about="unquantized", sentence=words, good=still)
    if gain.above_zero:
        share = f", {gain.mean / tuned.mean:.0%} of the gain" if tuned.above_zero else ""
        words, good = f"gain {measured(gain)}{share}: that part is retuning, not repair of quantization", False
    elif gain.below_zero:
        words, good = f"cost {measured(_as_cost(gain))}: what they gain under quantization is more than retuning", True
    else:
        words, good = f"change nothing significant ({measured(gain)}): no retuning is seen", True
    return ControlFinding(about="unquantized", sentence=f"on the unquantized model the same scales {words}", good=good)


def _shuffled(control: Control) -> ControlFinding:
    assert control.lost is not None
    where, what = {
        "bands": ("among the bands of each head", "which band gets which scale"),
        "heads": ("among heads and layers", "which head gets which scales"),
    }[control.kind]
    head = f"shuffled {where}, the scales"
    if control.lost.above_zero:
        rest = f"and then {_rest(control.gain)}" if control.gain.excludes_zero else "and then gain nothing significant"
        words, good = f"lose {measured(control.lost)} {rest}: {what} matters", True
    elif control.lost.below_zero:
        words, good = f"gain {measured(_as_cost(control.lost))} more: {what} is not what helps", False
    else:
        words, good = f"lose nothing significant ({measured(control.lost)}): it is not shown that {what} matters", None
    return ControlFinding(about=control.kind, sentence=f"{head} {words}", good=good)


def _rest(gain: Estimate) -> str:
    return f"gain {measured(gain)}" if gain.mean > 0 else f"cost {measured(_as_cost(gain))}"


def _searched(control: Control, tuned: Estimate) -> ControlFinding:
    assert control.lost is not None
    spread = f", {control.least:+.4f} to {control.most:+.4f} by single searches" if control.draws > 1 else ""
    read = control.name.removeprefix(SEARCHED_ON)
    name = f"on {TEXT_WORDS.get(read, read)}" if control.kind == "text" else control.name.removeprefix("searched ")
    if control.gain.low == control.gain.high == 0:  # the very same model
        said = f"a search {name} found no scales worth keeping: none are better there, or the guard rejects them"
        return ControlFinding(about=control.kind, sentence=said, good=False if tuned.above_zero else None)
    head = f"scales searched {name} gain {measured(control.gain)}{spread}"
    kept = f", {control.gain.mean / tuned.mean:.0%} of the gain" if tuned.above_zero else ""
    what = "the text it was searched on" if control.kind == "text" else "the seed of the search"
    if control.lost.above_zero:
        tail = f"; {measured(control.lost)} less than the tuned: {what} matters"
    elif control.lost.below_zero:
        tail = f"; {measured(_as_cost(control.lost))} more than the tuned: {what} matters"
    else:
        tail = f"; no significant difference to the tuned ({measured(control.lost)})"
    good = control.gain.above_zero if tuned.above_zero else None
    return ControlFinding(about=control.kind, sentence=f"{head}{kept}{tail}", good=good)


def _precisions(precisions: Sequence[Precision]) -> ControlFinding:
    """Does the gain hold in every format, and is any reference so poor that a quantized model beats it?"""
    said, good = [], True
    for one in precisions:
        if one.gain is None or one.cost is None or one.above is None:
            said.append(f"{one.dtype} is left out ({one.problem})")
            continue
        said.append(f"in {one.dtype} the scales gain {measured(one.gain)}")
        if not one.gain.above_zero:
            good = False
        if one.above.below_zero:
            said[-1] += f", and the quantized model beats its own reference by {measured(_as_cost(one.above))}: "
            said[-1] += "that reference is poor, not the quantized model good"
            good = False
        elif (
            one.reference is not None and one.reference.above_zero and one.reference.mean > NOTABLE * one.cost.mean > 0
        ):
            said[-1] += f", but its reference alone costs {measured(one.reference)}: compare with the loaded format"
            good = False
    return ControlFinding(about="dtype", sentence="; ".join(said), good=good)


def _as_cost(found: Estimate) -> Estimate:
    """What is won as what it costs."""
    return Estimate(mean=-found.mean, low=-found.high, high=-found.low)
