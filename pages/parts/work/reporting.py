"""report.html of what this setting has in memory or on disk, built when it is asked for."""

from __future__ import annotations

from typing import Any

from pages.parts.work import continuing
from qroar_core.cli.spelling import run_command
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.scales_file import to_file
from qroar_core.results import Diagnosis, Evaluation
from qroar_core.runs.folder import manifest_of
from qroar_core.runs.report import report_html
from qroar_core.runs.setting import Setting


def build(loaded: LoadedModel, setting: Setting, diagnosis: Diagnosis, outcome: Any, proof: Evaluation) -> str:
    """The whole report. Continuations of a held-out window belong to it, those of a person's own text do not."""
    command, left = run_command(loaded, setting)
    return report_html(
        manifest_of(loaded, setting, command), diagnosis, outcome.report,
        to_file(loaded, setting.rope, setting.quant, outcome.found), proof,
        continuing.result(loaded, setting, outcome, continuing.held_out(setting)), left,
    )  # fmt: skip
