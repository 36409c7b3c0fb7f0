"""Shares of trials: Wilson's interval of one, the exact McNemar test between two over the same trials.

Few trials near 0 or 1 are the rule here, where the normal interval has no width; Wilson's keeps one.
"""

from __future__ import annotations


def wilson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval of a proportion, without continuity correction; None without a trial.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = hits / n.

    Source: Wilson, JASA 22 (1927).
    """
    from scipy import stats  # takes half a second to import: not at every server's start

    if not trials:
        return None
    found = stats.binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p value that gains and losses between paired trials are equally likely; 1 without any.

    Source: McNemar, Psychometrika 12 (1947), in its exact binomial form.
    """
    from scipy import stats  # takes half a second to import: not at every server's start

    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
