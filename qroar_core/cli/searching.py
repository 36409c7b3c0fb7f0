"""The `search` command's work: shared between processes or not, its best kept also after Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import show
from qroar_core.cli.stopping import gently
from qroar_core.cli.workers import storage_of, workers
from qroar_core.errors import Cancelled

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.maths.rescale import Scales
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.models.text import Texts
    from qroar_core.results import SearchReport
    from qroar_core.runs.setting import Setting
    from qroar_core.searching.outcome import SearchOutcome


def searched(loaded: LoadedModel, setting: Setting, texts: Texts, options: dict[str, Any],
             folder: Path | None) -> SearchOutcome:  # fmt: skip
    """Search, and write scales.json into `folder`.

    Raises:
        Cancelled: after Ctrl-C; the best so far is in scales.json then, marked partial, if there is a folder.
    """
    from qroar_core import search as stage
    from qroar_core.models.scales_file import to_file, write_atomically

    def write(scales: Scales, report: SearchReport, **marks: bool) -> None:
        if folder:
            summary = report.model_dump(exclude={"history"}) | marks
            content = to_file(loaded, setting.rope, setting.quant, scales, summary)
            write_atomically(folder / "scales.json", content.to_json())

    try:
        with show.progress() as shown, gently(shown) as on_step, workers(options):
            outcome = stage.run(loaded, setting.rope, setting.quant, setting.search, texts, None, on_step,
                                storage=storage_of(options))  # fmt: skip
    except Cancelled as stop:
        if isinstance(stop.partial, stage.SearchOutcome):
            write(stop.partial.found, stop.partial.report, partial=True)
        raise
    write(outcome.kept, outcome.report)
    return outcome
