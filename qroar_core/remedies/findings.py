"""Findings of a comparison from its window means: which remedy gains, what band scales add, which choice is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from qroar_core.evaluation.findings import by_document
from qroar_core.evaluation.result import DocumentGain
from qroar_core.remedies.methods import BY_NAME
from qroar_core.remedies.result import Comparison, RemedyRow
from qroar_core.result import exp
from qroar_core.specs.labels import capital
from qroar_core.statistics.intervals import Interval, mean_interval, paired_interval, shows_above_zero


@dataclass(frozen=True, slots=True)
class MeasuredRemedy:
    """A remedy's mean NLL of each window, nats per token; the other fields as in `RemedyRow`."""

    method: str
    window_nll: list[float]
    band_scales: bool = False
    no_op: str = ""
    angles: bool = False
    turned: bool = False
    note: str = ""
    tied_reference: list[float] | None = None  # the unquantized model under the remedy's tie
    calibration: str = ""
    kept_layers: tuple[int, ...] = ()
    window_kl: list[float] | None = None


def remedy_rows(reference: Sequence[float], measured: Sequence[MeasuredRemedy], confidence: float) -> list[RemedyRow]:
    """Rows from window means; `measured` holds plain, and every method alone before what is on top of it."""
    plain = next(one.window_nll for one in measured if one.method == "plain" and not one.band_scales)
    gap = paired_interval(plain, reference, confidence)
    alone = {one.method: one.window_nll for one in measured if not (one.band_scales or one.turned)}
    rows = []
    for one in measured:
        over = mean_interval(one.window_nll, confidence)
        row = RemedyRow(
            method=one.method,
            band_scales=one.band_scales,
            angles=one.angles,
            nll=over.mean,
            nll_se=over.se,
            ppl=exp(over.mean),
            no_op=one.no_op,
            turned=one.turned,
            note=one.note,
            calibration=one.calibration,
            kept_layers=list(one.kept_layers),
            kl=None if one.window_kl is None else fmean(one.window_kl),
            window_nll=one.window_nll,
            window_kl=one.window_kl,
        )
        if one.window_nll is not plain:
            gain = paired_interval(plain, one.window_nll, confidence)
            share = gain.mean / gap.mean if gap.above_zero else None
            row = row.model_copy(
                update={"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high, "gap_recovered": share}
            )
        if one.tied_reference is not None:
            cost = paired_interval(one.tied_reference, reference, confidence)
            row = row.model_copy(update={"tie_cost": cost.mean, "tie_cost_low": cost.low, "tie_cost_high": cost.high})
        if one.band_scales:
            added = paired_interval(alone[one.method], one.window_nll, confidence)
            row = row.model_copy(update={"added": added.mean, "added_low": added.low, "added_high": added.high})
        rows.append(row)
    return rows


def bands_help(comparison: Comparison) -> bool:
    """Do scales of this project gain significantly, over windows and, where those are known, over documents?

    Band scales on the plain quantizer, and remedies with scales of their own; none with a rotation on top.
    """
    plain, *others = comparison.rows
    mine = [row for row in others if row.free and (row.method == "plain" or not row.about.takes_scales)]
    own = [row for row in mine if shows_above_zero(row.gain_low or 0.0)]
    over = [_counted(plain, row, comparison.documents, comparison.confidence) for row in own]
    return any(one is None or one.significant for one in over)


def sentences(
    reference: Sequence[float],
    rows: Sequence[RemedyRow],
    length: int,
    confidence: float,
    documents: Sequence[str] = (),
) -> list[str]:
    """Where band scales are the free choice, where they add to another remedy, and where they do not.

    Args:
        documents: the document of each window; empty: not known.
    """
    by_key = {row.key: row for row in rows}
    plain, bands = by_key["plain"], by_key.get("plain+")
    gap = paired_interval(plain.window_nll, reference, confidence)
    if not gap.above_zero:
        none = f"At {length} tokens this quantizer costs nothing significant ({_nats(gap)}): nothing to repair"
        return [none, *_tie_costs(rows), *_calibrated(rows)]
    said = [f"At {length} tokens this quantizer costs {_nats(gap)}; {_best(rows)}"]
    if bands is not None:
        turned = by_key.get("plain++")
        best = turned if turned is not None and turned.nll < bands.nll else bands
        said.append(_free_choice(best, rows, confidence))
        over = _counted(plain, best, documents, confidence) if shows_above_zero(best.gain_low or 0.0) else None
        if over is not None:
            but = "" if over.significant else "But "
            said.append(f"{but}{over.sentence}" if but else capital(over.sentence))
        if turned is not None:
            said.append(_turning(bands, turned, confidence))
        said += _against_rotation(best, by_key.get("rotation"), confidence)
    elif plain.no_op:
        said.append(f"Band scales alone cannot act here. {plain.no_op.rstrip('.')}")
    return said + _tie_costs(rows) + _own_scales(rows, confidence) + _on_top(rows) + _calibrated(rows)


def _counted(plain: RemedyRow, row: RemedyRow, documents: Sequence[str], confidence: float) -> DocumentGain | None:
    """A remedy's gain with documents as the unit, as an evaluation counts it; None where they are too few."""
    return by_document(plain.window_nll, row.window_nll, documents, confidence) if documents else None


def _best(rows: Sequence[RemedyRow]) -> str:
    tried = [row for row in rows if row.gain is not None]
    won = [row for row in tried if row.gain_low is not None and shows_above_zero(row.gain_low)]
    if not tried:
        return "nothing else was measured"
    if not won:
        return "no remedy recovers anything significant"
    best = max(won, key=lambda row: row.gain or 0.0)
    return f"the largest gain is that of {best.name}: {_gain(best)}"


def _free_choice(bands: RemedyRow, rows: Sequence[RemedyRow], confidence: float) -> str:
    """Band scales, with angles where those were searched, against what else costs nothing at run time."""
    what = bands.top
    if bands.gain_low is None or not shows_above_zero(bands.gain_low):
        won = _interval(bands.gain, bands.gain_low, bands.gain_high)
        return f"{capital(what)} alone gain nothing significant ({won})"
    others = [row for row in rows if row.free and not row.band_scales and row.gain is not None]
    head = f"Where the runtime does not rotate, {what} are free and recover {_gain(bands)}"
    if not others:
        return f"{head}: they are the free choice"
    best = min(others, key=lambda row: row.nll)
    stands, nats = _stands(paired_interval(best.window_nll, bands.window_nll, confidence))
    return (
        head
        + {
            "ahead": f", {nats} more than {best.name}: they are the free choice",
            "behind": f"; {best.name}, free as well, gains {nats} more",
            "unproven": f"; {best.name}, free as well, is not significantly different ({nats})",
        }[stands]
    )


def _turning(bands: RemedyRow, turned: RemedyRow, confidence: float) -> str:
    """What turning the pairs does beyond scaling them."""
    stands, nats = _stands(paired_interval(bands.window_nll, turned.window_nll, confidence))
    return (
        "Turning the pairs too "
        + {
            "ahead": f"gains {nats} more than the scales alone",
            "behind": f"costs {nats}: keep to the scales alone",
            "unproven": f"is not significantly different from the scales alone ({nats})",
        }[stands]
    )


def _against_rotation(bands: RemedyRow, rotation: RemedyRow | None, confidence: float) -> list[str]:
    if rotation is None:
        return []
    stands, nats = _stands(paired_interval(bands.window_nll, rotation.window_nll, confidence))
    what = bands.top or bands.name
    said = {
        "ahead": f"gains {nats} more than {what}",
        "behind": f"gains {nats} less than {what}",
        "unproven": f"is not significantly different from {what} ({nats})",
    }
    return [f"A rotation, which the runtime must do for every token, {said[stands]}"]


def _tie_costs(rows: Sequence[RemedyRow]) -> list[str]:
    """Which pairs are tied for maps, and what that costs."""
    return [
        f"{capital(row.about.name)}: {row.note}; in full precision the tie costs "
        f"{_interval(row.tie_cost, row.tie_cost_low, row.tie_cost_high)}, which counts against them"
        for row in rows
        if row.tie_cost is not None and not row.turned
    ]


def _own_scales(rows: Sequence[RemedyRow], confidence: float) -> list[str]:
    """How the best remedy with scales of its own stands to a rotation, and what one on top adds to it."""
    own = [row for row in rows if not row.about.takes_scales and not row.turned]
    if not own:
        return []
    best = min(own, key=lambda row: row.nll)
    said = _against_rotation(best, next((row for row in rows if row.key == "rotation"), None), confidence)
    turned = next((row for row in rows if row.method == best.method and row.turned), None)
    if turned is not None:
        stands, nats = _stands(paired_interval(best.window_nll, turned.window_nll, confidence))
        words = {"ahead": f"adds {nats}", "behind": f"costs {nats}", "unproven": f"adds nothing significant ({nats})"}
        said.append(f"On top of {best.name}, the best with scales of its own, a rotation {words[stands]}")
    return said


def _calibrated(rows: Sequence[RemedyRow]) -> list[str]:
    """How much text a remedy read that reads its own."""
    alone = (row for row in rows if row.calibration and not row.band_scales)
    return [f"{row.about.name} was calibrated on {row.calibration}" for row in alone]


def _on_top(rows: Sequence[RemedyRow]) -> list[str]:
    """One sentence for each way band scales, and those with angles, stand to the other remedies."""
    said = []
    added = [row for row in rows if row.band_scales and row.method != "plain" and row.added_low is not None]
    for angles, who in ((False, "Band scales"), (True, "Band scales and angles")):
        mine = [row for row in added if row.angles == angles]
        add = [r for r in mine if shows_above_zero(r.added_low or 0.0)]
        cost = [r for r in mine if shows_above_zero(-(r.added_high or 0.0))]
        neither = [r for r in mine if r not in (*add, *cost)]
        for words, chosen in (("add", add), ("add nothing significant", neither), ("cost", cost)):
            if chosen:
                parts = [f"{BY_NAME[r.method].name} ({_interval(r.added, r.added_low, r.added_high)})" for r in chosen]
                said.append(f"{who} {words} on top of {_listed(parts)}")
    still = [BY_NAME[row.method].name for row in rows if row.no_op and row.method != "plain"]
    if still:
        said.append(f"Band scales are an exact no-op under {_listed(still)}: no two bands share a scale there")
    return said


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _gain(row: RemedyRow) -> str:
    share = f", {row.gap_recovered:.0%} of it" if row.gap_recovered is not None else ""
    return f"{_interval(row.gain, row.gain_low, row.gain_high)}{share}"


def _stands(won: Interval) -> tuple[Literal["ahead", "behind", "unproven"], str]:
    """What an interval of nats won proves, and the interval in words: turned round where it is a loss."""
    if won.below_zero:
        return "behind", _nats(Interval(-won.mean, -won.high, -won.low, won.se))
    return "ahead" if won.above_zero else "unproven", _nats(won)


def _nats(interval: Interval) -> str:
    return _interval(interval.mean, interval.low, interval.high)


def _interval(mean: float | None, low: float | None, high: float | None) -> str:
    return f"{mean:+.4f} nats [{low:+.4f}, {high:+.4f}]"
