"""lm_eval.json: scores of lm-evaluation-harness's tasks under each condition, and what changes between conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from qroar_core.result import Result, Unbounded
from qroar_core.result_shapes import ANY, axes

REFERENCE, QUANTIZED, TUNED = ("reference", "identity"), ("quantized", "identity"), ("quantized", "tuned")
CONDITIONS = (REFERENCE, QUANTIZED, TUNED)
PAIRS = {"quantized - reference": (REFERENCE, QUANTIZED), "tuned - quantized": (QUANTIZED, TUNED)}


class Score(Result):
    """One metric of one task under one condition, as the harness computes it."""

    task: str
    metric: str
    filter: str  # what the harness did to answers before it scored them; "none"
    model: Literal["reference", "quantized"]
    scales: Literal["identity", "tuned"]
    value: Unbounded
    stderr: float | None  # None: the harness has none for this metric
    documents: int  # of a group those of all its tasks
    higher_is_better: bool | None  # None: the task does not say


class Change(Result):
    """A metric under one condition less the same under another, document by document.

    Student's t interval over documents; `gained` and `lost` count documents that only the one or only the other gets
    right, `p_value` is McNemar's exact one; None of a metric that is not right or wrong.
    """

    task: str
    metric: str
    filter: str
    what: Literal["quantized - reference", "tuned - quantized"]
    documents: int
    mean: float
    low: float | None  # None: one document has no interval
    high: float | None
    gained: int | None
    lost: int | None
    p_value: float | None


class Cut(Result):
    """Requests of a task that did not fit, from the left of which tokens were cut, as it was asked for."""

    task: str
    requests: int
    most_tokens: int


class TaskScores(Result):
    """Everything a run of the harness shows. A group's scores stand beside those of its tasks."""

    spec: dict[str, Any]  # the HarnessSpec that was asked
    length: int  # tokens the model reads at most
    confidence: float
    harness: str  # version of lm-evaluation-harness
    versions: dict[str, str]  # task -> version of the task
    fewshot: dict[str, int]  # task -> examples before each question
    setup: str  # interpolation and quantizers, in words
    text: str  # what else was asked, in words
    scores: Annotated[list[Score], axes("score")]
    changes: Annotated[list[Change], axes(ANY)]
    cut: Annotated[list[Cut], axes(ANY)]  # nothing unless `truncate` was asked for
    sentences: Annotated[list[str], axes(ANY)]

    def order(self, score: Score) -> tuple[int, int]:
        """Where a score stands in a table: beside the same metric under the other conditions."""
        names = list(dict.fromkeys((one.task, one.metric, one.filter) for one in self.scores))
        return names.index((score.task, score.metric, score.filter)), CONDITIONS.index((score.model, score.scales))

    def contradictions(self) -> Iterator[str]:
        """Scores of conditions that are never asked, and changes between scores that are not there."""
        there = {(score.task, score.metric, score.filter, score.model, score.scales) for score in self.scores}
        if len(there) != len(self.scores):
            yield "scores: one is there twice"
        if any(key[3:] not in CONDITIONS for key in there):
            yield "scores: of a condition that is never asked"
        for change in self.changes:
            if any((change.task, change.metric, change.filter, *who) not in there for who in PAIRS[change.what]):
                yield "changes: of scores that are not there"
            if change.documents < 1 or (change.low is None) != (change.high is None):
                yield "changes: of no document, or with half an interval"
