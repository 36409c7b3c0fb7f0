"""A search whose candidates are on disk while it runs, so that a server that is killed loses one at most.

The next start of the same search goes on from there. What a search ends with, also when it is cancelled, is kept as
every result is, and its candidates go. Steps of a gradient are no candidates: such a search begins anew.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import BadOutput, Cancelled
from qroar_core.models.loaded import LoadedModel
from qroar_core.progress import OnStep
from qroar_core.runs.store import run_name, runs_root
from qroar_core.scale_search import run as scale_search
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.scale_search.search_objectives import shareable
from qroar_core.setting import Setting

FOLDER = ".searches"  # beside the runs, which no list of runs shows


def journal_of(loaded: LoadedModel, setting: Setting) -> Path | None:
    """Where the candidates of this search are while it runs; None where it has none, or nothing can be written."""
    if not shareable(setting.search):
        return None
    folder = runs_root() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / f"{run_name(loaded, setting)}.journal"


def search(loaded: LoadedModel, setting: Setting, diagnosis: Diagnosis, on_step: OnStep) -> SearchOutcome:
    """The search, on from where an earlier server was killed.

    Raises:
        QRoarError: as `scale_search.run`, but for a journal that cannot be used, without which it is done.
    """
    journal, texts = journal_of(loaded, setting), setting.texts()
    if journal is not None:
        try:
            found = scale_search.run(loaded, setting, texts, diagnosis, on_step=on_step, storage=journal)
        except Cancelled:
            _remove(journal)
            raise
        except BadOutput as problem:  # a full disk, or another version's
            if problem.where != str(journal):
                raise
            _remove(journal)
        else:
            _remove(journal)
            return found
    return scale_search.run(loaded, setting, texts, diagnosis, on_step=on_step)


def _remove(journal: Path) -> None:
    with suppress(OSError):
        journal.unlink(missing_ok=True)
