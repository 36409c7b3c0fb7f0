"""The `search` command's work: shared between processes or not, its best kept also after Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.early import storage_of
from qroar_core.cli.graceful_sigint import graceful_sigint
from qroar_core.cli.workers import workers
from qroar_core.errors import Cancelled

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.models.text import Texts
    from qroar_core.scale_search.outcome import SearchOutcome
    from qroar_core.scale_search.result import SearchReport
    from qroar_core.setting import Setting
    from qroar_core.transforms.scales import Scales


def searched(
    loaded: LoadedModel, setting: Setting, texts: Texts, options: dict[str, Any], folder: Path | None
) -> SearchOutcome:
    """Search, and write scales.json into `folder`.

    Raises:
        Cancelled: after Ctrl-C; the best so far is in scales.json then, marked partial, if there is a folder.
    """
    from qroar_core.scale_search import run as stage
    from qroar_core.transforms.file import to_file, write_atomically

    def write(scales: Scales, report: SearchReport, **marks: bool) -> None:
        if folder:
            summary = report.model_dump(exclude={"history"}) | marks
            content = to_file(loaded, setting.rope, setting.quant, scales, summary)
            write_atomically(folder / "scales.json", content.to_json())

    try:
        with tables.progress() as shown, graceful_sigint(shown) as on_step, workers(options):
            outcome = stage.run(loaded, setting, texts, None, on_step, storage=storage_of(options))
    except Cancelled as stop:
        if isinstance(stop.partial, stage.SearchOutcome):
            write(stop.partial.found, stop.partial.report, partial=True)
        raise
    write(outcome.kept, outcome.report)
    return outcome
