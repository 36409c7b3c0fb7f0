"""A model whose files have changed since it was loaded: said on every page, and one click to load them as they are."""

from __future__ import annotations

import streamlit as st

from pages.jobs import load_job
from pages.state.clicks import pressed
from pages.state.session import choice
from pages.views.boxes import unless_refused
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel


def changed_files(loaded: LoadedModel) -> None:
    """Say so where the files are other ones now; what is in memory stays what was read."""
    if not loaded.files_changed():
        return
    with st.container(horizontal=True, vertical_alignment="center", key="changed files"):
        st.warning(
            f"The files of {literal(loaded.name)} have changed since it was loaded. Everything here is of the "
            "model as it was read.",
            icon=":material/sync_problem:",
        )
        if click := pressed("Load it again", icon=":material/refresh:"):
            click.over(redraw=unless_refused(lambda: load_job.start(choice())))
