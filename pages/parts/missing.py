"""The empty state of every page whose model is not in memory: why, and one click out of it."""

from __future__ import annotations

import streamlit as st

from pages.parts.boxes import refused
from pages.parts.choice import Choice
from pages.parts.session import absent_words, load_key, manager
from pages.parts.watch import watch
from pages.parts.words import short_name
from pages.parts.work import loading
from qroar_core.errors import QRoarError
from qroar_core.escape import literal


def missing(picked: Choice) -> None:
    """Say where the chosen model is, and offer to load it back."""
    if not picked.model:
        st.info("No model is loaded yet. Start with the demo model: one click on the Start page.")
    else:
        watch(load_key(picked))
        now = manager().snapshot(load_key(picked))
        if now is None or not now.active:
            _offer(picked, gone=now is None)
    st.page_link("pages/start.py", label="Go to Start", icon=":material/arrow_back:")


def _offer(picked: Choice, gone: bool) -> None:
    name = literal(short_name(picked.model))
    if gone:
        st.info(f"{literal(absent_words(picked))} Your setting is kept, and finished results come back with the model.")
    if st.button(f"Load {name}", type="primary", icon=":material/upload:"):
        try:
            loading.start(picked)
            st.rerun()
        except QRoarError as problem:
            refused(problem)
