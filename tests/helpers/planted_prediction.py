"""A prediction made by hand: five bands, four layers, costs and diagnostics a test can name."""

from dataclasses import asdict
from functools import cache

from qroar_core.evidence.prediction.findings import (
    PRESSURE,
    REFERENCE,
    WHOLE,
    DiagnosticByBand,
    added_up,
    again,
    costs,
    rank,
    ranked,
    sentences,
)
from qroar_core.evidence.prediction.result import Prediction
from qroar_core.specs import PredictionSpec
from qroar_core.statistics.correlation import spearman

COST = (0.01, 0.02, 0.03, 0.04, 0.10)  # of the bands, nats
WHOLE_COST = 0.25
PRESSURES = (5.0, 4.0, 3.0, 2.0, 1.0)  # exactly backwards
NOISE = (0.1, 0.2, 0.3, 0.4, 0.5)  # exactly right
LOUD = (1.0, 3.0, 2.0, 5.0, 4.0)
SPREAD = (-0.001, 0.0, 0.001, 0.0)  # of a cost over the four windows
HARD = (2.0, 2.5, 3.0, 3.5)  # NLL of the reference


@cache  # the bootstrap takes its time
def prediction(grid=True, unrotated=True, cost=COST, confidence=0.95, bands=None, layers=4):
    """Costs are cost +- SPREAD in every window; the map is cost / 4 times the layer's number, in every layer."""
    cost = cost if bands is None else [0.001 * (b + 1) for b in range(bands)]
    count = len(cost)
    scale = {band: 1 + 0.1 * band for band in range(count)}  # no two bands share a spread
    pairs = {f"band {b}": (2 * b, 2 * b + 1) for b in range(count)}
    nll = {REFERENCE: list(HARD)}
    for b, name in enumerate(pairs):
        nll[name] = [hard + cost[b] + scale[b] * off for hard, off in zip(HARD, SPREAD)]
    if unrotated:
        pairs["unrotated channels"] = None
        nll["unrotated channels"] = [hard + 0.005 + off for hard, off in zip(HARD, SPREAD)]
    nll[WHOLE] = [hard + WHOLE_COST + 2 * off for hard, off in zip(HARD, SPREAD)]
    kl = [[c / 4 * (layer + 1) for c in cost] for layer in range(layers)] if grid else []

    def same(values):
        return [[values[b % len(values)] + b // len(values) for b in range(count)]] * layers

    diagnostics = [
        DiagnosticByBand(PRESSURE, "interpolation pressure", "rad if the stretch grows 2.7 times", same(PRESSURES)),
        DiagnosticByBand("tail_k", "tail inflation of K", "× short", [[1.5] * count] * layers),  # nothing to rank
        DiagnosticByBand(
            "logit_noise",
            "logit noise",
            "nats RMS",
            [[v * (layer + 1) for v in row] for layer, row in enumerate(same(NOISE))],
        ),
        DiagnosticByBand("k_absmax", "largest |k|", "value of k", same(LOUD), baseline=True),
    ]
    parts = costs(nll, pairs, confidence)
    (whole,) = costs(nll, {WHOLE: None}, confidence)
    together = added_up(nll, list(pairs), confidence)
    found = ranked(diagnostics, parts[:count], kl, confidence)
    measured = [c.nll for c in parts[:count]]
    estimate = rank(spearman([sum(column) for column in zip(*kl)], measured, confidence)) if grid else None
    repeated = again(nll, list(pairs)[:count], confidence)
    return Prediction(
        spec=asdict(PredictionSpec(windows=4)),
        length=1024,
        windows=4,
        confidence=confidence,
        text="4 windows of 1024 tokens, planted",
        parts=parts,
        whole=whole,
        sum=together,
        kl=kl,
        kl_windows=4 if grid else 0,
        kl_length=512,
        repeated=repeated,
        estimate=estimate,
        diagnostics=found,
        window_nll=nll,
        **sentences(parts, whole, together, found, estimate, repeated),
    )
