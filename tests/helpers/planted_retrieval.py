"""A retrieval made by hand: two lengths, two depths, four trials a cell, numbers a test can name."""

from collections import Counter
from dataclasses import asdict

from qroar_core.retrieval.findings import QUANTIZED, REFERENCE, TUNED, findings
from qroar_core.retrieval.result import Retrieval, Trial
from qroar_core.specs import RetrievalSpec

SPEC = RetrievalSpec(tasks=("passkey",), lengths=(256, 1024), depths=(0.0, 0.5), trials=4)
PLACES = [(length, depth) for length in SPEC.lengths for depth in SPEC.depths]
# (length, depth) -> outcomes of the four trials: h hit, w wrong, c cut off, n no number
OUTCOMES = {
    REFERENCE: {(256, 0.0): "hhhh", (256, 0.5): "hhhh", (1024, 0.0): "hhhh", (1024, 0.5): "hhhw"},
    QUANTIZED: {(256, 0.0): "hhhh", (256, 0.5): "hhww", (1024, 0.0): "wwwc", (1024, 0.5): "wnwh"},
    TUNED: {(256, 0.0): "hhhh", (256, 0.5): "hhhw", (1024, 0.0): "hhww", (1024, 0.5): "hwhw"},
}
WORDS = {"h": "hit", "w": "wrong", "c": "cut off", "n": "no number"}
LOG_PROB = {REFERENCE: -0.5, QUANTIZED: -2.0, TUNED: -1.25}
SPREAD = (-0.2, -0.1, 0.1, 0.2)  # of log_prob over the four trials; scaled, so that differences have an interval


def trial(task, place, at, who, outcome, log_prob, margin=None):
    return Trial(
        task=task,
        length=place[0],
        depth=place[1],
        trial=at,
        model=who[0],
        scales=who[1],
        prompt_tokens=place[0] - 14,
        answer_at=60,
        answer="48213",
        said=" 48213." if outcome == "h" else " 99",
        outcome=WORDS[outcome],
        log_prob=log_prob,
        rank=1 if outcome in "hn" else 3,
        margin=log_prob + 3 if margin is None else margin,
    )


def made(trials, spec=SPEC, unfit=None):
    """The `Retrieval` of these trials."""
    parts = findings(spec.tasks, PLACES, trials, Counter(unfit or {}), spec.choices, spec.confidence)
    return Retrieval(
        spec=asdict(spec),
        lengths=list(spec.lengths),
        depths=list(spec.depths),
        choices=spec.choices,
        slack=spec.slack,
        chat=False,
        confidence=spec.confidence,
        text="4 trials, planted",
        trials=trials,
        **parts,
    )


def retrieval(conditions=(REFERENCE, QUANTIZED, TUNED), outcomes=OUTCOMES, unfit=None):
    scale = {REFERENCE: 1.0, QUANTIZED: 1.5, TUNED: 0.5}
    return made(
        [
            trial("passkey", place, i, who, outcomes[who][place][i], LOG_PROB[who] + scale[who] * SPREAD[i])
            for who in conditions
            for place in PLACES
            for i in range(4)
        ],
        unfit=unfit,
    )
