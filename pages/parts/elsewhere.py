"""Runs that one visitor opened and that the shelf does not vouch for: theirs alone, and marked wherever they show.

Such a run lies outside the root of runs, or it is from before a run knew its model by a checksum. What it holds answers
the same keys as a run of the shelf, but only in the session that opened it; nothing of it goes into the shelf.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import streamlit as st

from pages.parts.session import library, manager, model
from qroar_core.escape import literal
from qroar_core.models.file_stamp import stamps
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.entry import Entry, read_entry
from qroar_core.runs.folder import known_by
from qroar_core.runs.library import runs_root

OPENED = "runs opened from elsewhere"  # session: their folders, the newest first
READ = "results of runs from elsewhere"  # session: (folder, key) -> (its files when they were read, result)


def is_foreign(entry: Entry) -> bool:
    """Does the shelf not answer for this run?"""
    return entry.path.parent != runs_root() or not entry.checksum


def is_of(entry: Entry, loaded: LoadedModel | None) -> bool:
    """Is it a run of this model? An older one counts by its weights, and stands under a mark when opened."""
    if loaded is None:
        return False
    return entry.checksum == loaded.checksum if entry.checksum else entry.fingerprint == loaded.fingerprint


def take_in(entry: Entry) -> None:
    """Let this run's results be shown in this session."""
    before = [path for path in st.session_state.get(OPENED, []) if path != entry.path]
    st.session_state[OPENED] = [entry.path, *before]


def opened() -> list[Entry]:
    """The runs that this session took in, as they are on disk now; unreadable ones say why in `problem`."""
    return [read_entry(path) for path in st.session_state.get(OPENED, [])]


def result_of(key: Hashable) -> Any:
    """The finished result of a job: this software's own, or else of a run that this session opened; or None."""
    return _found(key)[0]


def source_of(key: Hashable) -> Entry | None:
    """The run from elsewhere that `result_of` this key comes from; None for this software's own, or no result."""
    return _found(key)[1]


def marked(key: Hashable) -> Any:
    """The same for what is shown: a result of a run from elsewhere stands under a line that says so."""
    found, entry = _found(key)
    if entry is not None:
        st.warning(literal(mark(entry)), icon=":material/folder_shared:")
    elif found is None and (gone := _gone(key)):
        st.warning(f"What stood here was read from {literal(', '.join(gone))}, opened by you, and cannot be read there "
                   "any more.", icon=":material/folder_off:")  # fmt: skip
    return found


def mark(entry: Entry) -> str:
    """Whose numbers these are."""
    if entry.checksum:
        return f"From the run folder {entry.path}, opened by you: not measured by this dashboard, shown to you alone."
    assert entry.manifest is not None  # a run that answers can be read
    return (f"From the run {entry.name} of an older version, opened by you: it knows its model "
            f"{known_by(entry.manifest)}, so its numbers may be of another config or tokenizer.")  # fmt: skip


def _found(key: Hashable) -> tuple[Any, Entry | None]:
    """The result, and the run from elsewhere that it comes from; None for this software's own."""
    mine = manager().result(key)
    if mine is not None:
        return mine, None
    paths, loaded = st.session_state.get(OPENED, []), model() if st.session_state.get(OPENED) else None
    for path in paths if loaded is not None else ():
        entry = read_entry(path, thorough=False)
        if entry.problem:
            continue
        read, now = st.session_state.setdefault(READ, {}), stamps(path.glob("*.json"))
        if read.get((path, key), (None,))[0] != now:
            found = library().answer(entry, key, loaded.fingerprint)
            if found is None:
                continue
            read[path, key] = now, found
        return read[path, key][1], entry
    return None, None


def _gone(key: Hashable) -> list[str]:
    """Folders of runs from elsewhere that have answered this key, and do no more."""
    return [str(path) for path, known in st.session_state.get(READ, {}) if known == key]
