"""What of one condition's KL report cannot be: percentiles, means and errors against each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise

from qroar_core.evaluation.result import Evaluation, KLReport, Row
from qroar_core.evaluation.sentence_check import DIGIT
from qroar_core.statistics.intervals import mean_interval


def kl_report_against(
    close: KLReport, windows: int, mine: list[float] | None = None, reference: list[float] | None = None
) -> Iterator[str]:
    """What contradicts itself, in a few words each.

    Args:
        windows: that the errors are over; 0 where nothing says how many.
        mine, reference: mean NLL of every window under the condition and its reference; None: not known.
    """
    yield from _percentiles(close)
    yield from _means(close, windows)
    if mine and reference and len(mine) == len(reference) > 1 and close.ln_ratio_se is not None:
        apart = mean_interval([one - other for one, other in zip(mine, reference, strict=True)]).se
        open_ = DIGIT * (max(map(abs, mine)) + max(map(abs, reference))) / math.sqrt(len(mine) - 1)
        if abs(close.ln_ratio_se - apart) > open_ + DIGIT * (close.ln_ratio_se + apart) + 1e-12:
            yield f"ln_ratio_se: {close.ln_ratio_se:g}, its windows have {apart:g}"


def window_kl_against(found: Evaluation) -> Iterator[str]:
    """What of mean KL, and of their errors, is not that of the windows; nothing where the KL of these is not known."""
    if not found.window_kl:
        return
    if apart := set(found.window_kl) ^ set(found.window_nll):
        yield f"window_kl: not of the rows of window_nll, see {min(apart)[:40]}"
    for i, row in enumerate(found.rows):
        kl = found.window_kl.get(f"{row.length}/{row.model}/{row.scales}", [])
        if kl:
            yield from (f"rows.{i}.{said}" for said in _means_of_windows(row, kl))


def _means_of_windows(row: Row, kl: list[float]) -> Iterator[str]:
    over, open_ = mean_interval(kl), DIGIT * max(map(abs, kl)) + 1e-12
    if row.kl_mean is None or abs(row.kl_mean - over.mean) > open_ + DIGIT * (row.kl_mean + over.mean):
        said = "none" if row.kl_mean is None else f"{row.kl_mean:g}"
        yield f"kl_mean: {said}, its windows have {over.mean:g}"
    se = None if row.close is None else row.close.kl_mean_se
    if se is not None and len(kl) > 1 and abs(se - over.se) > open_ / math.sqrt(len(kl) - 1) + DIGIT * (se + over.se):
        yield f"close.kl_mean_se: {se:g}, its windows have {over.se:g}"


def _percentiles(close: KLReport) -> Iterator[str]:
    for name in ("kl", "delta_p"):
        table = getattr(close, name)
        if not table or any(not re.fullmatch(r"\d{1,3}(\.\d+)?", key) for key in table):
            yield f"{name}: no percentiles"
        elif any(low > high for low, high in pairwise(table[key] for key in sorted(table, key=float))):
            yield f"{name}: a percentile below a lower one"


def _means(close: KLReport, windows: int) -> Iterator[str]:
    """A mean lies within its percentiles, and its error over windows is at most what numbers within them can have.

    Of numbers in [low, high] with mean m the variance is at most (m - low) (high - m) (Bhatia and Davis, 2000).
    """
    least, most = close.delta_p.get("0", -100.0), close.delta_p.get("100", 100.0)
    widest = max(abs(least), abs(most))
    kl_most = close.kl.get("100", math.inf)
    for name, mean, se, low, high in (
        ("kl_mean", close.kl_mean, close.kl_mean_se, 0.0, kl_most),
        ("delta_p_mean", close.delta_p_mean, close.delta_p_mean_se, least, most),
        ("same_top1", close.same_top1, close.same_top1_se, 0.0, 1.0),
        ("delta_p_rms", close.delta_p_rms, None, 0.0, widest),
    ):
        slack = 2 * DIGIT * max(abs(mean), abs(low), abs(high) if math.isfinite(high) else 0.0) + 1e-9
        if not low - slack <= mean <= high + slack:
            yield f"{name}: {mean:g}, of numbers from {low:g} to {high:g}"
        elif se is not None and windows > 1 and math.isfinite(high):
            yield from _error_within(name, se, (mean - low + slack) * (high - mean + slack), windows)
    if close.delta_p_rms_se is not None and windows > 1 and "0" in close.delta_p and "100" in close.delta_p:
        room = (
            widest**2 * (1 + 4 * DIGIT) + 1e-9 - close.delta_p_rms**2
        )  # of squares: the error of their mean over 2 rms
        yield from _error_within("delta_p_rms", close.delta_p_rms_se, max(room, 0.0) / 4, windows)


def _error_within(name: str, se: float, variance: float, windows: int) -> Iterator[str]:
    most = math.sqrt(variance / (windows - 1))
    if se > most * (1 + 4 * DIGIT) + 1e-9:
        yield f"{name}_se: {se:g}, over {windows} windows at most {most:g}"
