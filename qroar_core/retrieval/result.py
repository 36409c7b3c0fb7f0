"""retrieval.json: numbers hidden in text, asked for under each condition.

Two scores of the same trials. The answer's log-probability, teacher-forced, is graded, so that a small model or a
small loss still shows; generation says what a user would get.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from qroar_core.result import Result
from qroar_core.result_shapes import ANY, axes

Outcome = Literal["hit", "wrong", "cut off", "no number"]  # of a generated answer; see retrieval.answers
Task = Literal["passkey", "needles"]


REFERENCE, QUANTIZED, TUNED = ("reference", "identity"), ("quantized", "identity"), ("quantized", "tuned")
CONDITIONS = (REFERENCE, QUANTIZED, TUNED)
PAIRS = {"quantized - reference": (REFERENCE, QUANTIZED), "tuned - quantized": (QUANTIZED, TUNED)}


class Trial(Result):
    """One prompt under one condition.

    `log_prob` is the true answer's, nats per answer token; `rank` its place among the candidates (1: most
    probable); `margin` what it lies above the other candidates' mean, nats per answer token: 0 on average for a model
    that does not know the answer, because all candidates are drawn alike and have equally many tokens.
    `said` is what greedy decoding wrote, cut at the token budget or at the model's own end.
    """

    task: Task
    length: int
    depth: float
    trial: int
    model: Literal["reference", "quantized"]
    scales: Literal["identity", "tuned"]
    prompt_tokens: int
    answer_at: int  # token position of the answer inside the prompt
    answer: str
    said: str
    outcome: Outcome
    log_prob: float
    rank: int
    margin: float


class Cell(Result):
    """One condition's trials of one length and depth; `length` and `depth` None: all of the task's.

    Intervals: Wilson's for the shares, Student's t over trials for log-probabilities; None where too few trials fit.
    """

    task: Task
    length: int | None
    depth: float | None
    model: Literal["reference", "quantized"]
    scales: Literal["identity", "tuned"]
    trials: int  # whose prompt fits the length
    unfit: int  # whose prompt does not: never run, never counted as a miss
    hits: int  # by generation
    cut_off: int  # answers that the token budget ended inside a number that begins like the true one; no hits
    no_number: int  # ... and before any number; no hits
    hit_low: float | None
    hit_high: float | None
    chosen: int  # trials in which no other candidate was as probable as the answer
    chosen_low: float | None
    chosen_high: float | None
    log_prob: float | None  # mean, nats per answer token
    log_prob_low: float | None
    log_prob_high: float | None
    margin: float | None  # mean, nats per answer token
    margin_low: float | None
    margin_high: float | None


class Difference(Result):
    """A condition less another over the same trials, of one length and depth or of all (None).

    `log_prob` in nats per answer token with its paired t interval over trials; `gained` and `lost` count trials
    that only the one or only the other answers by generation, `p_value` is McNemar's exact one.
    """

    task: Task
    length: int | None
    depth: float | None
    what: Literal["quantized - reference", "tuned - quantized"]
    trials: int
    log_prob: float | None
    log_prob_low: float | None
    log_prob_high: float | None
    gained: int
    lost: int
    p_value: float


class Finding(Result):
    """What one task says in plain words.

    `significant`: the reference knows the hidden numbers, and the interval of what the scales win back in
    log-probability lies above zero.
    """

    task: Task
    sentence: str
    significant: bool


class Retrieval(Result):
    """Everything the retrieval shows. `cells` and `differences` end, task by task, with those over everything."""

    spec: dict[str, Any]  # the RetrievalSpec that was asked
    lengths: Annotated[list[int], axes("length")]
    depths: Annotated[list[float], axes("depth")]
    choices: int  # candidates a rank is taken among
    slack: int  # tokens a generated answer may be longer than the answer
    chat: bool  # asked through the tokenizer's chat template
    confidence: float
    text: str  # trials, documents, seed
    findings: Annotated[list[Finding], axes("task")]
    cells: Annotated[list[Cell], axes("cell")]
    differences: Annotated[list[Difference], axes(ANY)]
    trials: Annotated[list[Trial], axes("trial", empty=True)]  # none where no prompt fits

    def contradictions(self) -> Iterator[str]:
        """What the maps take for granted: a cell for every place under every condition, and one over all."""
        if self.choices < 2:
            yield f"choices: {self.choices}"
        places: set = {(length, depth) for length in self.lengths for depth in self.depths} | {(None, None)}
        of: dict[tuple[str, ...], list] = {}
        for cell in self.cells:
            of.setdefault((cell.task, cell.model, cell.scales), []).append((cell.length, cell.depth))
            if not (0 <= cell.hits <= cell.trials and 0 <= cell.chosen <= cell.trials):
                yield f"cells: {cell.hits} hits and {cell.chosen} chosen of {cell.trials} trials"
            if cell.trials and (cell.log_prob is None or cell.margin is None):
                yield "cells: trials without a log-probability"
        if any(len(mine) != len(places) or set(mine) != places for mine in of.values()):
            yield "cells: not one for every length and depth of each condition, and one over all"
        if {task for task, *_ in of} != set(self.tasks):
            yield "cells: not of the tasks that the findings are about"
        if any(who not in CONDITIONS for who in [key[1:] for key in of] + [(t.model, t.scales) for t in self.trials]):
            yield "cells: a condition that is never asked"
        for apart in self.differences:
            both = PAIRS[apart.what]
            if apart.trials < 1 and (apart.gained or apart.lost or apart.log_prob is not None):
                yield "differences: of no trial"
            if (apart.length, apart.depth) not in places or any((apart.task, *who) not in of for who in both):
                yield "differences: of cells that are not there"

    @property
    def chance(self) -> float:
        """Share of trials in which a guess among the candidates is right."""
        return 1 / self.choices

    @property
    def tasks(self) -> list[Task]:
        """The tasks, in the order asked."""
        return [finding.task for finding in self.findings]
