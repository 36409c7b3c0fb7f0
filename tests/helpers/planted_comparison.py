"""A comparison made by hand, with window means whose differences can be named."""

from __future__ import annotations

from qroar_core.remedies.findings import MeasuredRemedy, remedy_rows, sentences
from qroar_core.remedies.result import Comparison
from qroar_core.remedies.result_layers import CurvePoint, JudgedRule, LayerChoice, LayerWorth
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


def layers():
    """A choice of layers made by hand: two of four kept, judged on the windows of `comparison`."""
    worth = (0.1, 0.0, 0.05, 0.2)
    kept = ([], [3], [0, 3], [0, 2, 3], [0, 1, 2, 3])
    lost = (0.35, 0.15, 0.06, 0.01, 0.0)
    rules = [
        JudgedRule(rule="none", layers=[], bytes=600, nll=2.4, lost=0.4, lost_low=0.3, lost_high=0.5, window_nll=HARD),
        JudgedRule(
            rule="chosen",
            layers=[0, 3],
            bytes=1300,
            nll=2.1,
            lost=0.1,
            lost_low=0.05,
            lost_high=0.15,
            gain=0.3,
            gain_low=0.2,
            gain_high=0.4,
            window_nll=HARD,
        ),
    ]
    return LayerChoice(
        sensitivity="kept",
        layers=[LayerWorth(layer=i, bytes=350, gain=gain) for i, gain in enumerate(worth)],
        curve=[
            CurvePoint(layers=mine, bytes=600 + 350 * i, kl=nats, lost=nats)
            for i, (mine, nats) in enumerate(zip(kept, lost, strict=True))
        ],
        budget=1400,
        kept=[0, 3],
        bytes=1300,
        first_last=[0, 3],
        rules=rules,
        sentences=["Keeping layers 0, 3 gains +0.3000 nats: planted"],
        length=1024,
        confidence=0.95,
        text="chosen on 2 development windows, digest abcd1234",
        cache="fp8",
    )
