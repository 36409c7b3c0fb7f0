"""What to serve, from what was measured under one setup: the scales of a search, an evaluation, a comparison."""

from __future__ import annotations

from qroar_core.evaluation.gap import remedy_share, tuned_share
from qroar_core.evaluation.result import Evaluation
from qroar_core.remedies.result import Comparison, RemedyRow
from qroar_core.scale_search.result import SearchReport
from qroar_core.statistics.intervals import shows_above_zero

PLAIN = "serve the checkpoint with its interpolation alone"


def advice(
    searched: SearchReport | None, evaluation: Evaluation | None, comparison: Comparison | None
) -> tuple[str, ...]:
    """Sentences without their full stop, the answer first; none where nothing was measured.

    Args:
        evaluation: of the scales that `searched` found.
    """
    said = [] if searched is None else [_of_scales(searched, evaluation)]
    return (*said, *(() if comparison is None else (_of_remedies(comparison),)))


def _of_scales(searched: SearchReport, evaluation: Evaluation | None) -> str:
    """Whether the scales are worth serving: as the search decided, and as held-out text confirms or not."""
    if searched.chosen != "found":
        return f"The search keeps no scales, {searched.reason}: {PLAIN}"
    if evaluation is None or evaluation.gain is None:
        return "Serve the tuned scales, which the search keeps; held-out text has not confirmed them yet"
    if not evaluation.gain.significant:
        return f"Held-out text shows no significant gain of the tuned scales: {PLAIN}"
    share = tuned_share(evaluation)
    won = f"{evaluation.gain.delta_nll:+.4f} nats a token on held-out text"
    won += "" if share is None else f", {share.words} of the loss"
    if evaluation.caveat:
        return f"The tuned scales recover {won}, but {evaluation.holds_only}"
    return f"Serve the tuned scales: they recover {won}, and the runtime needs no change"


def _of_remedies(comparison: Comparison) -> str:
    """The best remedy that is free at run time, and the one of all where it needs the runtime and gains more."""
    won = [row for row in comparison.rows if row.gain_low is not None and shows_above_zero(row.gain_low)]
    if not won:
        return "Of the remedies compared none recovers anything significant"
    free = [row for row in won if row.free]
    best = max(won, key=lambda row: row.gain or 0.0)
    if free:
        mine = max(free, key=lambda row: row.gain or 0.0)
        said = f"Best of the remedies that are free at run time: {mine.name}{_share(comparison, mine)}"
    else:
        said = "No remedy that is free at run time recovers anything significant"
    return said if best.free else f"{said}; that the runtime must do: {best.name}{_share(comparison, best)}"


def _share(comparison: Comparison, row: RemedyRow) -> str:
    share = remedy_share(comparison, row)
    return "" if share is None else f", {share.words}"
