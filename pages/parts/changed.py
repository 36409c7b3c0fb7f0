"""A model whose files have changed since it was loaded: said on every page, and one click to load them as they are."""

from __future__ import annotations

import streamlit as st

from pages.parts.boxes import refused
from pages.parts.session import choice
from pages.parts.work import loading
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel


def changed_files(loaded: LoadedModel) -> None:
    """Say so where the files are other ones now; what is in memory stays what was read."""
    if not loaded.files_changed():
        return
    with st.container(horizontal=True, vertical_alignment="center", key="changed files"):
        st.warning(f"The files of {literal(loaded.name)} have changed since it was loaded. Everything here is of the "
                   "model as it was read.", icon=":material/sync_problem:")  # fmt: skip
        if st.button("Load it again", icon=":material/refresh:"):
            try:
                loading.start(choice())
            except QRoarError as problem:
                refused(problem)
                return
            st.rerun()
