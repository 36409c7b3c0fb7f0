"""The empty state of every page whose model is not in memory: why, and one click out of it."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.jobs import load_job
from pages.state.choice import Choice
from pages.state.clicks import pressed
from pages.state.session import LAST_MODEL_KEY, load_key, manager
from pages.views.boxes import unless_refused
from pages.views.job_progress import result_or_progress
from pages.views.labels import short_name
from qroar_core.escape import literal


def no_model(picked: Choice) -> None:
    """Say where the chosen model is, and offer to load it back."""
    if not picked.model:
        st.info("No model is loaded yet. Start with the demo model: one click on the Start page.")
    else:
        result_or_progress(load_key(picked))
        now = manager().snapshot(load_key(picked))
        if now is None or not now.active:
            _offer(picked, gone=now is None)
    st.page_link("pages/start.py", label="Go to Start", icon=":material/arrow_back:")


def _offer(picked: Choice, gone: bool) -> None:
    name = literal(short_name(picked.model))
    if gone:
        st.info(f"{literal(absent_words(picked))} Your setup is kept, and finished results come back with the model.")
    if click := pressed(f"Load {name}", "load the chosen", type="primary", icon=":material/upload:"):
        click.over(redraw=unless_refused(partial(load_job.start, picked)))


def absent_words(picked: Choice) -> str:
    """Why a chosen model is not in memory, and the way out; the name may be of an address, and is not escaped here."""
    name = short_name(picked.model)
    if st.session_state.get(LAST_MODEL_KEY) == load_key(picked):
        return f"{name} is no longer in memory: another model was loaded here since. Load it again?"
    return f"This link needs the model {name}. Load it?"
