"""What of an evaluation's file does not follow from the rest of it: rows, findings and sentences from window means.

Only exact relations are asked, never whether a number is plausible: a gain below zero, a share above one and a NLL of
hundreds of nats are what tiny or broken models have. Numbers may differ by what a file's six digits leave open. What an
older version did not write yet is not asked.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from scipy.special import stdtrit  # Student's t; scipy.stats takes half a second to import

from qroar_core.evaluation.findings import Means, findings
from qroar_core.evaluation.kl_report_contradictions import kl_report_against, window_kl_against
from qroar_core.evaluation.result import Evaluation, PositionCurve, Row
from qroar_core.evaluation.sentence_check import DIGIT, sentences_against
from qroar_core.scale_search.gain import contradicts, on_held_out
from qroar_core.statistics.intervals import mean_interval

REFERENCE, PLAIN = "reference/identity", "quantized/identity"
TEXT = re.compile(r"(\d+) windows?(?: \(all that the text holds, \d+ by default\))?, (\d+) targets each")


def contradictions_of(found: Evaluation) -> Iterator[str]:
    """What contradicts itself, in a few words each; nothing where all of it follows."""
    yield from _conditions(found)
    for i, row in enumerate(found.rows):
        yield from _row(found, i, row)
    yield from _windows(found)
    yield from window_kl_against(found)
    yield from _positions(found)
    if found.window_nll:
        yield from _findings(found)
    elif found.gain is not None and contradicts(found.gain.significant, found.gain.ci_low):
        yield f"gain.significant: {found.gain.significant}, ci_low is {found.gain.ci_low:g}"


def _conditions(found: Evaluation) -> Iterator[str]:
    """Every condition at every length, once, over the same tokens; those that the findings compare among them."""
    at: dict[int, Counter[str]] = {}
    for row in found.rows:
        at.setdefault(row.length, Counter())[f"{row.model}/{row.scales}"] += 1
    here = set().union(*at.values())
    for length, names in at.items():
        if lacking := [name for name in (REFERENCE, *sorted(here)) if name not in names]:
            yield f"rows: none of {lacking[0]} at {length} tokens"
        if len(set(names.values())) > 1:
            yield f"rows: {names.most_common(1)[0][0]} is there twice at {length} tokens"
    if found.gain is not None:
        for name in (PLAIN, "quantized/tuned", "reference/tuned"):
            if name not in at.get(found.gain.length, {}):
                yield f"rows: none of {name} at {found.gain.length} tokens, of which gain speaks"
        if found.gain.length != max(at):
            yield f"gain.length: {found.gain.length}, rows reach {max(at)}"
    if found.rotation is not None and "quantized/rotation" not in here:
        yield "rotation: no row of it"
    if len({row.tokens for row in found.rows}) > 1:
        yield "rows: not the same number of tokens in each"


def _row(found: Evaluation, i: int, row: Row) -> Iterator[str]:
    open_ = DIGIT * abs(row.nll)
    if math.isinf(row.ppl):
        if row.nll + open_ < math.log(1.7976e308):
            yield f"rows.{i}.ppl: infinite, its nll is {row.nll:g}"
    elif (row.ppl <= 0 and row.nll > -700) or (row.ppl > 0 and abs(math.log(row.ppl) - row.nll) > open_ + 2 * DIGIT):
        yield f"rows.{i}.ppl: {row.ppl:g}, not e to its nll {row.nll:g}"
    means = found.window_nll.get(f"{row.length}/{row.model}/{row.scales}")
    if means:
        over = mean_interval(means)
        slack = _left_open(means)
        if not _near(row.nll, over.mean, slack):
            yield f"rows.{i}.nll: {row.nll:g}, its windows have {over.mean:g}"
        if len(means) > 1 and not _near(row.nll_se, over.se, slack / math.sqrt(len(means) - 1)):
            yield f"rows.{i}.nll_se: {row.nll_se:g}, its windows have {over.se:g}"
    if row.close is None:
        return
    for name, other in (("kl_mean", row.close.kl_mean), ("same_top1", row.close.same_top1)):
        if getattr(row, name) is not None and not _near(getattr(row, name), other):
            yield f"rows.{i}.{name}: {getattr(row, name):g}, close has {other:g}"
    plain = found.window_nll.get(f"{row.length}/{REFERENCE}")
    yield from (f"rows.{i}.close.{said}" for said in kl_report_against(row.close, _count(found), means, plain))
    if row.kl_p99 is not None and not _near(row.kl_p99, row.close.kl.get("99", math.nan)):
        yield f"rows.{i}.kl_p99: {row.kl_p99:g}, close has another"
    beside = [one for one in found.rows if one.length == row.length and f"{one.model}/{one.scales}" == REFERENCE]
    if beside and not _near(row.close.ln_ratio, row.nll - beside[0].nll, open_ + DIGIT * abs(beside[0].nll)):
        yield f"rows.{i}.close.ln_ratio: {row.close.ln_ratio:g}, the rows have {row.nll - beside[0].nll:g}"


def _count(found: Evaluation) -> int:
    """Windows, or texts where windows slided; 0 where no file says."""
    said = TEXT.match(found.text)
    return len(next(iter(found.window_nll.values()), [])) or (int(said[1]) if said else 0)


def _windows(found: Evaluation) -> Iterator[str]:
    """Window means of every row and of nothing else, as many as windows are counted."""
    said = TEXT.match(found.text)
    if "window_nll" in found.model_fields_set:
        rows = {f"{row.length}/{row.model}/{row.scales}" for row in found.rows}
        for name in sorted(rows - set(found.window_nll)):
            yield f"window_nll: none of {name}, of which there is a row"
        for name in sorted(set(found.window_nll) - rows):
            yield f"window_nll.{name[:40]}: of no row"
    counts = {"window_nll": len(next(iter(found.window_nll.values()), []))}
    counts |= {"documents": len(found.documents), "gain.windows": 0 if found.gain is None else found.gain.windows}
    counts |= {"text": int(said[1]) if said else 0}
    known = {name: count for name, count in counts.items() if count}
    if len(set(known.values())) > 1:
        yield "windows: " + ", ".join(f"{name} has {count}" for name, count in known.items())
    for name, count in known.items():
        if found.rows[0].tokens % count:
            yield f"rows.0.tokens: {found.rows[0].tokens} of {count} windows in {name}"
    if said and int(said[2]) * int(said[1]) != found.rows[0].tokens:
        yield f"text: {said[1]} windows of {said[2]} targets, the rows have {found.rows[0].tokens} tokens"
    if (over := found.gain_by_document) is not None:
        if not found.documents:
            yield "documents: none, a gain is counted over them"
        elif over.documents != (there := len(set(found.documents))):
            yield f"gain_by_document.documents: {over.documents}, there are {there}"


def _positions(found: Evaluation) -> Iterator[str]:
    curve = found.positions
    if curve is None:
        return
    if any(low >= high for low, high in pairwise(curve.position)):
        yield "positions.position: not in rising order"
    if curve.position[0] < 0 or curve.position[-1] >= max(row.length for row in found.rows):
        yield "positions.position: beyond the longest length"
    if REFERENCE not in curve.curves:
        yield f"positions.curves: none of {REFERENCE}"
    there = {f"{row.model}/{row.scales}" for row in found.rows}
    if stray := set(curve.curves) - there:
        yield f"positions.curves.{min(stray)[:40]}: of no row"
    if set(curve.cost_low) != set(curve.cost_high) or not set(curve.cost_low) <= set(curve.curves) - {REFERENCE}:
        yield "positions.cost_low: not of the conditions that have a curve"
    for name, lows in curve.cost_low.items():
        if any(low > high for low, high in zip(lows, curve.cost_high.get(name, lows), strict=True)):
            yield f"positions.cost_low.{name}: above cost_high"
            continue
        here = curve.curves[name], curve.curves[REFERENCE], lows, curve.cost_high[name]
        for i, (mine, other, low, high) in enumerate(zip(*here, strict=True)):
            open_ = 2 * DIGIT * (abs(mine) + abs(other) + abs(low) + abs(high)) + 1e-12
            if abs((low + high) / 2 - (mine - other)) > open_:
                yield f"positions.cost_low.{name}.{i}: around {(low + high) / 2:g}, the curves have {mine - other:g}"
                break
    yield from _along_positions(found, curve)


def _along_positions(found: Evaluation, curve: PositionCurve) -> Iterator[str]:
    """The mean along a curve, each point by the targets it stands for, is the NLL of its row."""
    if not (count := _count(found)):
        return
    scored, points = found.stride or found.rows[0].tokens // count, len(curve.position)
    each = [scored // points + (i < scored % points) for i in range(points)]  # targets, dealt as evenly as can be
    longest = max(row.length for row in found.rows)
    for row in (one for one in found.rows if one.length == longest):
        along = curve.curves.get(f"{row.model}/{row.scales}", [])
        mean = sum(n * nll for n, nll in zip(each, along)) / scored
        if along and not _near(mean, row.nll, _left_open(along)):
            yield f"positions.curves.{row.model}/{row.scales}: {mean:g} on average, its row has {row.nll:g}"


def _findings(found: Evaluation) -> Iterator[str]:
    """Gain, shares and rotation are those of the window means, and so are their sentences."""
    longest = max(row.length for row in found.rows)
    means: Means = {
        key.split("/", 1)[1]: values for key, values in found.window_nll.items() if key.startswith(f"{longest}/")
    }
    if REFERENCE not in means:
        return
    confidence = 0.95 if found.gain is None else found.gain.confidence
    count = len(means[REFERENCE])
    where = on_held_out(count, longest, found.rows[-1].tokens // count, found.stride)
    again = findings(means, longest, confidence, found.documents, where)
    slack = _Slack(means, found.documents, confidence)
    pairs = ((PLAIN, "quantized/tuned"), (REFERENCE, "reference/tuned"))
    gap = _gap(means, confidence)
    for name, fields, used in (
        ("gain", ("delta_nll", "ci_low", "ci_high"), pairs[0]),
        ("attribution", ("quantization_repair", "repair_ci_low", "repair_ci_high"), (*pairs[0], *pairs[1])),
        ("attribution", ("retuning", "retuning_ci_low", "retuning_ci_high"), pairs[1]),
        ("gain_by_document", ("delta_nll", "ci_low", "ci_high"), pairs[0]),
        ("rotation", ("delta_nll", "ci_low", "ci_high"), (PLAIN, "quantized/rotation")),
        ("rotation", ("added", "added_ci_low", "added_ci_high"), ("quantized/rotation", "quantized/rotation_tuned")),
        ("tie", ("cost", "cost_low", "cost_high"), (REFERENCE, "reference/untied")),
        ("tie", ("delta_nll", "ci_low", "ci_high"), ("quantized/untied", "quantized/tuned")),
    ):
        if name not in found.model_fields_set or (name == "gain_by_document" and not found.documents):
            continue
        mine, wanted = getattr(found, name), again.get(name)
        if name == "rotation" and mine is None:  # not every version drew a finding from its rows
            continue
        if (mine is None) != (wanted is None):
            yield f"{name}: {'none' if mine is None else 'there'}, its windows say otherwise"
        elif mine is not None:
            by_document = name == "gain_by_document"
            yield from slack.differences(name, mine, wanted, fields, used, by_document)
    for name, win in (
        ("gap_recovered", "quantized/tuned"),
        ("smooth_attention_gap_recovered", "quantized/smooth_attention"),
    ):
        yield from _share(name, getattr(found, name), means.get(win), means, gap)
    if found.rotation is not None:
        yield from _share("rotation.recovered", found.rotation.recovered, means.get("quantized/rotation"), means, gap)
    if found.tie is not None and again["tie"] is not None:
        said, follows = found.tie.recovered, again["tie"].recovered
        if (said is None) != (follows is None) or (said is not None and not _near(said, follows, 0.01 * abs(follows))):
            yield f"tie.recovered: {said}, its windows have {follows}"
    for name in ("gain", "gain_by_document"):
        one = getattr(found, name)
        if one is not None and contradicts(one.significant, one.ci_low):
            yield f"{name}.significant: {one.significant}, ci_low is {one.ci_low:g}"
    open_ = slack.whole()
    yield from sentences_against(found, again, (open_, open_ / max(gap[1], 1e-9)))


def _gap(means: Means, confidence: float) -> tuple[float, float]:
    """Mean and lower end of what quantization costs; zeros where nothing is quantized."""
    if PLAIN not in means:
        return 0.0, 0.0
    lost = mean_interval([a - b for a, b in zip(means[PLAIN], means[REFERENCE], strict=True)], confidence)
    return lost.mean, lost.low


def _share(
    name: str, said: float | None, after: list[float] | None, means: Means, gap: tuple[float, float]
) -> Iterator[str]:
    """A share of the gap is the mean that is won over the mean that is lost, whichever gaps a version gave one for."""
    if said is None:
        return
    if after is None or PLAIN not in means:
        yield f"{name}: {said:g}, nothing was measured that recovers it"
        return
    won = mean_interval([a - b for a, b in zip(means[PLAIN], after, strict=True)]).mean
    slack = sum(_left_open(one) for one in (means[PLAIN], after, means[REFERENCE]))
    if abs(said * gap[0] - won) > slack * (1 + abs(said)) + DIGIT * abs(won):
        yield f"{name}: {said:g}, its windows have {won / gap[0] if gap[0] else math.inf:g}"


class _Slack:
    """How far an interval of rounded window means may lie from that of the means before they were rounded."""

    def __init__(self, means: Means, documents: Sequence[str], confidence: float) -> None:
        self.means, self.confidence = means, confidence
        self.units = {False: len(means[REFERENCE]), True: len(set(documents))}

    def of(self, samples: Sequence[Sequence[float]]) -> float:
        """Of a mean of sums of them."""
        return sum(_left_open(one) for one in samples)

    def whole(self) -> float:
        """Of either end of any interval here, nats."""
        open_ = self.of([*self.means.values()])
        return open_ + max(self.reach(open_, count) for count in self.units.values())

    def reach(self, open_: float, count: int) -> float:
        """Of an interval's half width over `count` units, each of which is `open_` off at most."""
        if count < 2:
            return 0.0
        return float(stdtrit(count - 1, 0.5 + self.confidence / 2)) * open_ / math.sqrt(count - 1)

    def differences(
        self, name: str, mine: object, wanted: object, fields: tuple[str, ...], used: Sequence[str], by_document: bool
    ) -> Iterator[str]:
        """What of mean, low and high is not that of the windows."""
        missing = [key for key in used if key not in self.means]
        if missing:
            if getattr(mine, fields[0]) is not None:
                yield f"{name}.{fields[0]}: no windows of {missing[0]}"
            return
        open_, count = self.of([self.means[key] for key in used]), self.units[by_document]
        reach = self.reach(open_, count)
        for i, field in enumerate(fields):
            said, follows = getattr(mine, field), getattr(wanted, field)
            if said is None and i:  # ends that an older version did not write
                continue
            if said is None or follows is None or not _near(said, follows, open_ + (reach if i else 0)):
                shown = "none" if said is None else f"{said:g}"
                yield f"{name}.{field}: {shown}, its windows have {follows if follows is None else f'{follows:g}'}"


def _left_open(values: Sequence[float]) -> float:
    """What six digits leave open of any of them."""
    return DIGIT * max(map(abs, values), default=0.0)


def _near(one: float, other: float, slack: float = 0.0) -> bool:
    """Equal but for what six digits of either, and `slack`, leave open; the last bits of a sum besides."""
    return abs(one - other) <= slack + DIGIT * (abs(one) + abs(other)) + 1e-12
