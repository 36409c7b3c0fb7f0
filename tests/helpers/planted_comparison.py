"""A comparison made by hand, with window means whose differences can be named."""

from __future__ import annotations

from qroar_core.remedies.findings import MeasuredRemedy, remedy_rows, sentences
from qroar_core.remedies.result import Comparison
from qroar_core.statistics.intervals import mean_interval, paired_interval

WOBBLE = (0.0, 0.02, -0.02, 0.01, -0.01, 0.0)  # of paired differences
HARD = (2.0, 2.4, 1.8, 2.1, 2.2, 1.9)  # the windows themselves
COST = {  # nats above the reference: clear differences are 0.1 and more, hidden ones 0.001
    "plain": 0.5,
    "plain+": 0.3,
    "smooth_attention": 0.4,
    "smooth_attention+": 0.401,
    "kvquant": 0.05,
    "rotation": 0.15,
    "rotation+": 0.1,
}


def measured_remedies(cost=None):
    """One `MeasuredRemedy` for every key; those that differ by less than the wobble are told apart by no interval."""
    out = []
    for i, (key, nats) in enumerate((cost or COST).items()):
        turn = WOBBLE[i % 6 :] + WOBBLE[: i % 6]
        means = [h + nats + w for h, w in zip(HARD, turn, strict=True)]
        no_op = "Symmetric scales are an exact no-op here: planted." if key == "kvquant" else ""
        out.append(MeasuredRemedy(key.rstrip("+"), means, key.endswith("+"), no_op, key.endswith("++")))
    return out


def comparison(cost=None):
    made = measured_remedies(cost)
    rows = remedy_rows(HARD, made, 0.95)
    gap = paired_interval(made[0].window_nll, HARD)
    return Comparison(
        reference_nll=mean_interval(HARD).mean,
        reference_ppl=7.9,
        reference_window_nll=list(HARD),
        gap=gap.mean,
        gap_low=gap.low,
        gap_high=gap.high,
        rows=rows,
        sentences=sentences(HARD, rows, 1024, 0.95),
        length=1024,
        confidence=0.95,
        text="6 held-out windows of 1024 tokens, digest abcd1234, seed 0",
    )
