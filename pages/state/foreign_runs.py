"""Runs that one visitor opened and that the store does not vouch for: theirs alone, and marked wherever they show.

Such a run lies outside the root of runs, or it is from before a run knew its model by a checksum. What it holds answers
the same keys as a run of the store, but only in the session that opened it; nothing of it goes into the store.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

import streamlit as st

from pages.state.opened_runs import OPENED, is_foreign, is_of
from pages.state.session import library, manager, model
from qroar_core.escape import literal
from qroar_core.job import JobKey
from qroar_core.models.file_stamp import stamps
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.folder import known_by
from qroar_core.runs.record import RunRecord, read_record
from qroar_core.runs.stage_files import file_of
from qroar_core.runs.store import runs_root

Found = TypeVar("Found")
OTHERS = "of another run under the same setup, or measured here since"
MEMORY = "In the memory of this dashboard only, until it ends: no run on disk holds this result."
FOREIGN_RESULTS = "results of runs from elsewhere"  # session: (folder, key) -> (its files when they were read, result)


def result_of(key: JobKey[Found]) -> Found | None:
    """The finished result of a job: this software's own, or else of a run that this session opened; or None."""
    return answered(key)[0]


def source_of(key: JobKey) -> RunRecord | None:
    """The run from elsewhere that `result_of` this key comes from; None for this software's own, or no result."""
    return answered(key)[1]


def answered(key: JobKey[Found]) -> tuple[Found | None, RunRecord | None]:
    """The result, and the run from elsewhere that it comes from; None for this software's own.

    Where the address names one of several runs of a setting, what that run holds is meant, not another's. Else the
    newest run that has it answers; memory answers for what no run holds, and never for a run that is gone.
    """
    named = _named(key)
    if named is not None:
        return named, None
    mine = manager().result(key)
    if mine is not None:
        return mine, None
    paths = st.session_state.get(OPENED, [])
    loaded = model() if paths else None
    if loaded is None:
        return None, None
    for path in paths:
        entry = read_record(path)
        if not entry.problem and (found := _read(entry, key, loaded)) is not None:
            return found, entry
    return None, None


def run_of(key: JobKey[Found]) -> RunRecord | None:
    """The run on disk that `result_of` this key comes from: what a list of runs may call in view."""
    if _named(key) is not None:
        return read_record(runs_root() / _asked_for())
    found = library().find(key)
    return found[0] if found is not None else answered(key)[1]


def marked(key: JobKey[Found]) -> Found | None:
    """The same for what is shown: a result of a run from elsewhere stands under a line that says so."""
    found, entry = answered(key)
    if entry is not None:
        st.warning(literal(mark(entry)), icon=":material/folder_shared:")
    elif found is not None:
        for said in filter(None, (_not_its_own(key), _in_memory_only(key))):
            st.caption(literal(said))
    elif found is None and (gone := _gone(key)):
        st.warning(
            f"The result shown here was read from {literal(', '.join(gone))}, opened by you, and cannot be read there "
            "any more.",
            icon=":material/folder_off:",
        )
    return found


def mark(entry: RunRecord) -> str:
    """Whose numbers these are."""
    if entry.checksum:
        return f"From the run folder {entry.path}, opened by you: not measured by this dashboard, shown to you alone."
    assert entry.manifest is not None  # a run that answers can be read
    return (
        f"From the run {entry.name} of an older version, opened by you: it knows its model "
        f"{known_by(entry.manifest)}, so its numbers may be of another config or tokenizer."
    )


def _named(key: JobKey[Found]) -> Found | None:
    """What the run that the address names holds of this key. An older run there is one from elsewhere."""
    run = _asked_for()
    path, loaded = runs_root() / run, model() if run else None
    if loaded is None or not path.is_dir():
        return None
    entry = read_record(path)
    return None if entry.problem or is_foreign(entry) else _read(entry, key, loaded)


def _asked_for() -> str:
    """The run that the address names; empty where it names none."""
    return st.session_state["choice"].run if "choice" in st.session_state else ""


def _read(entry: RunRecord, key: JobKey[Found], loaded: LoadedModel) -> Found | None:
    """The result of this run, read once; None where it has none."""
    read, now = st.session_state.setdefault(FOREIGN_RESULTS, {}), stamps(entry.path.glob("*.json"))
    if read.get((entry.path, key), (None,))[0] != now:
        found = library().answer(entry, key, loaded.fingerprint)
        if found is None:
            return None
        read[entry.path, key] = now, found
    return read[entry.path, key][1]


def _not_its_own(key: JobKey) -> str:
    """One sentence for a result that is not of the run that the address names; empty where none is named."""
    run = _asked_for()
    loaded = model() if run else None
    if loaded is None or file_of(key) is None or _named(key) is not None:
        return ""
    if not (runs_root() / run).is_dir():
        return f"Not from the run {run}, which is no longer there: {OTHERS}."
    if not is_of(read_record(runs_root() / run), loaded):
        return ""
    return f"Not from the run {run}, which has none: {OTHERS}."


def _in_memory_only(key: JobKey[Found]) -> str:
    """One sentence for a result that a run could hold and none does; empty for others, and where a job says it."""
    if file_of(key) is None or any(isinstance(part, str) for part in key[5:]):
        return ""  # of scales in no run
    now = manager().snapshot(key)
    return "" if run_of(key) is not None or (now is not None and now.warning) else MEMORY


def _gone(key: Hashable) -> list[str]:
    """Folders of runs from elsewhere that have answered this key, and do no more."""
    return [str(path) for path, known in st.session_state.get(FOREIGN_RESULTS, {}) if known == key]
