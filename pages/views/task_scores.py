"""Scores of lm-evaluation-harness's tasks, which the command `lm-eval` left in a run."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from pages.views.render import numbers, picture
from qroar_core.escape import literal
from qroar_core.harness import figure as drawn
from qroar_core.runs.record import RunRecord

BESIDE = "task scores"  # in the list of runs


def task_scores(runs: Iterable[RunRecord]) -> None:
    """Figure, findings and numbers of the first of these runs that has any; nothing where none has."""
    run, found = next(((one, found) for one in runs if (found := one.task_scores())), (None, None))
    if run is None or found is None:
        return
    st.subheader("Scores of tasks", anchor="task-scores-of-a-run")
    st.caption(literal(f"In {run.name}: {found.setup}, {found.text}."))
    st.markdown("\n".join(f"- {literal(sentence)}" for sentence in found.sentences))
    shown = drawn.scores(found)
    picture(shown, "task-scores")
    if shown is None:  # no metric is a share
        numbers(drawn.table(found), "task-scores")
