"""What titles and captions of the hidden states say of their numbers."""

from __future__ import annotations

from qroar_core.diagnostics.similarity.result import EXACT_DB, NO_ERROR, HiddenSimilarity, exact, half_interval
from qroar_core.result import Number
from qroar_core.statistics.digits import shown

MEANING = (
    "Each sampled row's error energy over its own energy, averaged over the rows of a bin, in dB. 20 dB: the error "
    "is a tenth of the value; higher is better. The cosine in the table is a plain mean over rows. Position 0 "
    "attends to itself alone and is left out."
)
NOT_AT_ALL = "Not at all: no sampled row has an error"
EXACT = " Decibels end where float32 cannot show a smaller error: there is none."
OPEN = (
    " What leaves the figure at its top has no upper end: no error at all is within 2 standard errors, 144.5 dB in the "
    "table."
)
COSINE = (
    " The null of the cosine, with 2 standard errors over the directions: each row's error as large, at a random "
    "direction. A lower cosine is of errors that point against the row, a higher one of errors that stretch it."
)

OLDER_MEANING = (
    "Signal over error energy in dB. 20 dB: the error is a tenth of the value; higher is better. This file averages "
    "decibels, of few rows a bin, and counts position 0, which attends to itself alone."
)


def of_cosine(seen: HiddenSimilarity) -> str:
    """The end of a caption: the cosine's null, and which decibels stand for no error."""
    return COSINE * bool(seen.cosine_null) + EXACT * bool(none(seen))


def none(seen: HiddenSimilarity) -> str:
    """The finding where no sampled row of any layer has an error, as where a cache holds all of them exactly."""
    whole = seen.accumulation.whole() if seen.accumulation else []
    return f" {NOT_AT_ALL}" if whole and not any(v is None or v for v in whole) else ""


def drift(seen: HiddenSimilarity, last: int | None) -> str:
    """The finding: the last bin that has rows against the null's band."""
    if last is None:
        return " No data"
    value, low, high = seen.sqnr_db[-1][last], seen.null_low[-1][last], seen.null_high[-1][last]
    whole = seen.layer_sqnr_db[-1]
    if value is None or whole is None:
        return " No data"
    own = half_interval(value, seen.sqnr_low[-1][last], seen.sqnr_high[-1][last])
    least, most = seen.sqnr_low[-1][last], seen.sqnr_high[-1][last]
    between = f" [{shown(least, own)}, {NO_ERROR if exact(most) else shown(most, own)}]" if own else ""
    numbers = f"{shown(value, own)}{between} dB in the last bin, {shown(whole, own)} dB over all"
    # as far as digits go that the bin and the null both support: what they do not tell apart does not differ
    error = max((e for e in (own, half_interval(whole, low, high)) if e is not None), default=None)
    if low is not None and _digits(value, error) < _digits(low, error):
        return f" Yes: {numbers}"
    if high is not None and _digits(value, error) > _digits(high, error):
        return f" No, less: {numbers}"
    return f" No more than shuffled rows show: {numbers}"


def _digits(value: float, error: Number) -> float:
    """The number as it is shown beside this error."""
    return float(shown(value, error))


def is_open(seen: HiddenSimilarity) -> bool:
    """Whether an interval of the last layer has no upper end, other than one of a bin without any error."""
    ends = zip(seen.sqnr_db[-1], seen.sqnr_high[-1], seen.null_high[-1], strict=True)
    return any((exact(bar) and not exact(v)) or exact(null) for v, bar, null in ends)


def drawn_ends(ends: list[Number], values: list[Number] | None = None) -> list[Number]:
    """Upper ends as they are drawn: past every axis where there is none, but where the value itself has no error."""
    beside = values or [None] * len(ends)
    return [2 * EXACT_DB if exact(end) and not exact(v) else end for end, v in zip(ends, beside, strict=True)]


def closed_axis(seen: HiddenSimilarity) -> list[float]:
    """The axis that shows every value and every end there is."""
    ends = [*seen.sqnr_low[-1], *seen.null_low[-1], *seen.sqnr_high[-1], *seen.null_high[-1]]
    known = [v for v in seen.sqnr_db[-1] if v is not None] + [v for v in ends if v is not None and not exact(v)]
    room = max(0.05 * (max(known) - min(known)), 0.5)
    return [min(known) - room, max(known) + room]
