"""Which runs the pages show under a setting: the Runs page calls in view what they show, and nothing else."""

from __future__ import annotations

from pages import jobs
from pages.state.foreign_runs import run_of
from qroar_core.evaluation.result import Evaluation
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.record import RunRecord
from qroar_core.setting import Setting


def runs_shown(loaded: LoadedModel, setting: Setting) -> list[RunRecord]:
    """The runs that answer for the evaluation, the search and the diagnosis of this setting, each once."""
    outcome = jobs.search.result(loaded, setting)
    keys = (
        jobs.evaluate.key(loaded, setting, outcome),
        jobs.search.key(loaded, setting),
        jobs.diagnose.key(loaded, setting),
    )
    answering = {run.path: run for run in map(run_of, keys) if run is not None}
    return list(answering.values())


def evaluation_shown(loaded: LoadedModel, setting: Setting) -> tuple[Evaluation | None, RunRecord | None]:
    """What the Evaluate page shows under this setting, and the run on disk that it comes from."""
    outcome = jobs.search.result(loaded, setting)
    found = jobs.evaluate.result(loaded, setting, outcome)
    return found, run_of(jobs.evaluate.key(loaded, setting, outcome))
