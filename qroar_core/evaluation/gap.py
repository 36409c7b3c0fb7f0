"""Which share of what quantization costs is recovered, with its interval; and whether that is a share at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qroar_core.evaluation.result import Evaluation
from qroar_core.remedies.result import Comparison, RemedyRow
from qroar_core.statistics.intervals import Interval, ratio_interval, shows_apart_from_zero

NOT_SIGNIFICANT = "not significant"
FROM_UNTIED = "counted from the model without a tie"


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the NLL gap. `interval` is Fieller's; None in files that hold no window means.

    `significant` is False where the interval of the gain in nats includes zero: the share may be zero then.
    """

    mean: float
    interval: Interval | None
    significant: bool
    untied: bool = False  # counted from the model without a tie: what the tie costs counts against it

    @property
    def measured(self) -> str:
        """`63% [52%, 75%]`."""
        if self.interval is None:
            return f"{self.mean:.0%}"
        return f"{self.mean:.0%} [{self.interval.low:.0%}, {self.interval.high:.0%}]"

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.interval is None else self.interval.low

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.interval is None else self.interval.high

    @property
    def words(self) -> str:
        """`63% [52%, 75%]`, or `not significant (45% [-8%, 98%])`; and what it is counted from where pairs are tied."""
        said = self.measured if self.significant else f"{NOT_SIGNIFICANT} ({self.measured})"
        return f"{said}, {FROM_UNTIED}" if self.untied else said


def share_of_gap(
    before: Sequence[float], after: Sequence[float], reference: Sequence[float], confidence: float
) -> Interval | None:
    """Interval of mean(before - after) / mean(before - reference), paired window by window."""
    won = [a - b for a, b in zip(before, after, strict=True)]
    lost = [a - b for a, b in zip(before, reference, strict=True)]
    return ratio_interval(won, lost, confidence)


def tuned_share(evaluation: Evaluation) -> Share | None:
    """What the tuned scales recover of the gap; None where nothing was tuned, or the gap itself is not significant.

    Where pairs are tied it is counted from the model without a tie: what the tie costs counts against them.
    """
    gain, mean, tie = evaluation.gain, evaluation.gap_recovered, evaluation.tie
    if gain is None:
        return None
    start, low, high = "identity", gain.ci_low, gain.ci_high
    if tie is not None and tie.ci_low is not None and tie.ci_high is not None:
        start, mean, low, high = "untied", tie.recovered, tie.ci_low, tie.ci_high
    if mean is None:
        return None
    before, after, reference = (
        evaluation.window_nll.get(f"{gain.length}/{which}")
        for which in (f"quantized/{start}", "quantized/tuned", f"reference/{start}")
    )
    known = before and after and reference
    interval = share_of_gap(before, after, reference, gain.confidence) if known else None  # type: ignore[arg-type]
    return Share(mean, interval, shows_apart_from_zero(low, high), untied=start == "untied")


def remedy_share(comparison: Comparison, row: RemedyRow) -> Share | None:
    """What a remedy recovers of the gap; None on the plain quantizer, or where the gap itself is not significant."""
    if row.gap_recovered is None or row.gain_low is None or row.gain_high is None:
        return None
    plain = next(one for one in comparison.rows if one.key == "plain")
    interval = share_of_gap(plain.window_nll, row.window_nll, comparison.reference_window_nll, comparison.confidence)
    significant = shows_apart_from_zero(row.gain_low, row.gain_high)
    return Share(row.gap_recovered, interval, significant, untied=row.tie_cost is not None)
