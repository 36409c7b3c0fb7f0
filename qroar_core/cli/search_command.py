"""The `search` command's work: shared between processes or not, its best kept also after Ctrl-C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qroar_core.cli import tables
from qroar_core.cli.check_options import storage_of
from qroar_core.cli.graceful_sigint import graceful_sigint
from qroar_core.cli.workers import workers
from qroar_core.errors import Cancelled
from qroar_core.statistics.intervals import NO_GAIN

if TYPE_CHECKING:  # a command that reads no model starts without torch
    from qroar_core.models.loaded import LoadedModel
    from qroar_core.models.text import Texts
    from qroar_core.scale_search.gain import Decision
    from qroar_core.scale_search.outcome import SearchOutcome
    from qroar_core.scale_search.result import SearchReport
    from qroar_core.scale_search.result_ties import TieChoice
    from qroar_core.setting import Setting
    from qroar_core.specs import RopeSpec
    from qroar_core.transforms.scales import Scales


def searched(
    loaded: LoadedModel,
    setting: Setting,
    texts: Texts,
    options: dict[str, Any],
    folder: Path | None,
    choice: TieChoice | None = None,
) -> tuple[SearchOutcome, Decision | None]:
    """Search, and write scales.json into `folder`, and ties.json where pairs were chosen by `--tie auto`.

    Under tied pairs the gain is measured from the model without a tie too. Groups that were chosen are kept only where
    that shows one: a tie without scales would be a cost for nothing.

    Args:
        choice: the pairs that `setting` ties; None where they were named.
    Returns:
        what came out, and that gain; None where nothing is tied or the search kept identity.

    Raises:
        Cancelled: after Ctrl-C; the best so far is in scales.json then, marked partial, if there is a folder.
    """
    from qroar_core.scale_search import run as stage
    from qroar_core.transforms.file import to_file, write_atomically

    def write(scales: Scales, report: SearchReport, rope: RopeSpec, **marks: bool) -> None:
        if folder:
            summary = report.model_dump(exclude={"history"}) | marks
            content = to_file(loaded, rope, setting.quant, scales, summary)
            write_atomically(folder / "scales.json", content.to_json())
            if choice is not None:
                write_atomically(folder / "ties.json", choice.to_json())

    outcome = beside = None
    try:
        with tables.progress() as shown, graceful_sigint(shown) as on_step, workers(options):
            outcome = stage.run(loaded, setting, texts, None, on_step, storage=storage_of(options))
            if setting.rope.tie and not outcome.kept.is_identity:
                beside = stage.measure_gain(loaded, setting, outcome.kept, texts, on_step, from_untied=True)
    except Cancelled as stop:
        best = outcome or stop.partial  # the search itself may be over
        if isinstance(best, stage.SearchOutcome):
            write(best.found, best.report, setting.rope, partial=True)
        raise
    rope = setting.rope
    if choice is not None and rope.tie and (beside is None or not beside.significant):
        outcome, rope = _untied(loaded, setting, outcome, beside), replace(rope, tie=())
    write(outcome.kept, outcome.report, rope)
    return outcome, beside


def _untied(loaded: LoadedModel, setting: Setting, outcome: SearchOutcome, beside: Decision | None) -> SearchOutcome:
    """The outcome where the tie that was chosen for it is not kept."""
    from qroar_core.scale_search.problem import SearchProblem

    why = outcome.report.reason if beside is None else f"{NO_GAIN} ({beside.measured})"
    report = outcome.report.model_copy(update={"chosen": "identity", "reason": f"{why}; no pairs are tied either"})
    return replace(outcome, kept=SearchProblem.of(loaded, setting, {}).none, report=report)
