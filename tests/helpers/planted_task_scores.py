"""Scores of tasks made by hand: one task, three conditions, an accuracy and a perplexity."""

from dataclasses import asdict

from qroar_core.harness.findings import changes, sentences
from qroar_core.harness.result import QUANTIZED, REFERENCE, TUNED, Score, TaskScores
from qroar_core.specs import HarnessSpec

RIGHT = {REFERENCE: [1, 1, 1, 1, 1, 1, 0, 0], QUANTIZED: [1, 1, 1, 1, 0, 0, 0, 0], TUNED: [1, 1, 1, 1, 1, 0, 0, 0]}
PPL = {REFERENCE: 12.5, QUANTIZED: 15.0, TUNED: 13.0}


def score(metric, who, value, **said):
    """One score of the task `mine`."""
    given = {"filter": "none", "stderr": None, "documents": 8, "higher_is_better": True} | said
    return Score(task="mine", metric=metric, model=who[0], scales=who[1], value=value, **given)


def task_scores():
    scores = [score("acc", who, sum(right) / 8, stderr=0.125) for who, right in RIGHT.items()]
    scores += [score("word_perplexity", who, ppl, higher_is_better=False) for who, ppl in PPL.items()]
    logged = {
        who: {"mine": [{"doc_id": i, "filter": "none", "acc": x} for i, x in enumerate(right)]}
        for who, right in RIGHT.items()
    }
    found = changes(scores, logged, 0.95)
    return TaskScores(
        spec=asdict(HarnessSpec(("mine",))),
        length=512,
        confidence=0.95,
        harness="0.4.13",
        versions={"mine": "1.0"},
        fewshot={"mine": 0},
        setup="YaRN ×4, K int4 per token",
        text="at most 512 tokens, seed 0",
        scores=scores,
        changes=found,
        cut=[],
        sentences=sentences(found, {("mine", "acc"): True}, 0.95),
    )
