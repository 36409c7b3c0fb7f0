"""What `lm_eval` returns."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import pandas as pd

from qroar_core.harness import figure as scored
from qroar_core.harness import result as harness
from qroar_core.library.shown import Figures, Shown, there


class TaskScores(harness.TaskScores, Shown):
    """Scores of lm-evaluation-harness's tasks under each condition.

    Attributes:
        scores: one a task, metric and condition: `value` and `stderr` as the harness computes them, `documents`.
        changes: a metric under one condition less under another, paired by document, with the ends of its interval;
            `gained` and `lost` documents and McNemar's `p_value` where each is right or wrong.
        length: tokens the model reads at most. `fewshot`: examples before each question.
        cut: requests from the left of which tokens were cut to fit; empty unless that was asked for.
        harness, versions: of the harness and of its tasks.
        sentences: the findings.
    """

    FILE: ClassVar = "a file of task scores"

    def _figures(self) -> Figures:
        return {"scores": partial(there, scored.scores, self)}

    def _headline(self) -> str:
        return "\n".join([*self.sentences, f"{self.setup}, {self.text}"])

    def table(self) -> pd.DataFrame:
        """One row a task, metric and condition."""
        return scored.table(self)
