"""Which runs from elsewhere this visitor opened; what they answer is `foreign_runs`' business."""

from __future__ import annotations

import streamlit as st

from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.record import RunRecord, read_record
from qroar_core.runs.store import runs_root

OPENED = "runs opened from elsewhere"  # session: their folders, the newest first


def is_foreign(entry: RunRecord) -> bool:
    """Does the store not answer for this run?"""
    return entry.path.parent != runs_root() or not entry.checksum


def is_of(entry: RunRecord, loaded: LoadedModel | None) -> bool:
    """Is it a run of this model? An older one counts by its weights, and stands under a mark when opened."""
    if loaded is None:
        return False
    return entry.checksum == loaded.checksum if entry.checksum else entry.fingerprint == loaded.fingerprint


def take_in(entry: RunRecord) -> None:
    """Let this run's results be shown in this session."""
    before = [path for path in st.session_state.get(OPENED, []) if path != entry.path]
    st.session_state[OPENED] = [entry.path, *before]


def opened() -> list[RunRecord]:
    """The runs that this session took in, as they are on disk now; unreadable ones say why in `problem`."""
    return [read_record(path) for path in st.session_state.get(OPENED, [])]
