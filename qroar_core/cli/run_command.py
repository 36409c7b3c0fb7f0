"""The `run` command's work: every stage into one folder, with more processes and the retrieval where they are asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.retrieval_options import retrieval_spec
from qroar_core.cli.workers import storage_of, workers

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.models.text import Texts
    from qroar_core.runs.folder import RunFolder
    from qroar_core.setting import Setting


def whole(loaded: LoadedModel, setting: Setting, texts: Texts, options: dict[str, Any], folder: RunFolder) -> None:
    """Run what the folder does not have yet, and show the closing tables."""
    from qroar_core.runs.pipeline import run

    asked = None
    if options["retrieve"]:
        asked = replace(retrieval_spec({"seed": options["seed"]}), lengths=setting.evaluation.lengths)
    with tables.progress() as on_step, workers(options, folder.path / "diagnosis.json"):
        result = run(loaded, setting, texts, folder, on_step, retrieval=asked, storage=storage_of(options))
    tables.evaluation(result.evaluation, options["json"])
    if options["json"]:
        return
    if asked is not None and result.retrieved is not None:
        tables.retrieval(result.retrieved, False)
    from qroar_core.evaluation.two_gains import kept_words, why_different

    if result.diagnosis.band_cost is None:
        from qroar_core.figures.picture import OLDER

        tables.line(f"diagnosis.json: {OLDER}")
    tables.line(result.report.verdict.reason)
    tables.line(f"in the search: {result.report.reason}")
    for words in (kept_words, why_different):
        if said := words(result.report, result.evaluation):
            tables.line(said)
    tables.line(f"written to {folder.path}")
