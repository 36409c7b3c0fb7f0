"""report.html of what this setting has in memory or on disk, built when it is asked for."""

from __future__ import annotations

from pages import jobs
from pages.views.continuations import held_out
from qroar_core.cli.reproduce import run_command
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evaluation.result import Evaluation
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.folder import manifest_of
from qroar_core.runs.report import report_html
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.transforms.file import to_file


def build_report(
    loaded: LoadedModel, setting: Setting, diagnosis: Diagnosis, outcome: SearchOutcome, evaluation: Evaluation
) -> str:
    """The whole report. Continuations of a held-out window belong to it, those of a person's own text do not."""
    command, left = run_command(loaded, setting)
    return report_html(
        manifest_of(loaded, setting, command),
        diagnosis,
        outcome.report,
        to_file(loaded, setting.rope, setting.quant, outcome.found),
        evaluation,
        jobs.continue_prompt.result(loaded, setting, outcome, held_out(setting)),
        left,
    )
