"""Apply and Undo on the loaded weights, with the state always said."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.watch import watch
from pages.parts.work import patching
from qroar_core.models.loaded import LoadedModel


def patch_buttons(loaded: LoadedModel, outcome: Any) -> None:
    """Both buttons and the state. A change waits its turn like every other job on the device."""
    applied = loaded.applied is not None
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="patch"):
        state = "**scales applied** to" if applied else "**as loaded**, no scales in"
        st.markdown(f"The weights in memory: {state} `{loaded.name}`.")
        nothing = outcome.found.is_identity
        why = "Every scale found is 1: there is nothing to apply." if nothing else "W_Q and W_K times the scales found"
        if st.button("Apply", disabled=applied or nothing, icon=":material/check:", help=why):
            patching.start(loaded, outcome.found)
            st.rerun()
        if st.button(
            "Undo", disabled=not applied, icon=":material/undo:", help="The checkpoint's weights, bit for bit"
        ):
            patching.start(loaded, None)
            st.rerun()
    watch(patching.key(loaded))
    if applied:
        st.caption("Diagnose, Tune and Evaluate always start from the checkpoint's own weights, applied or not.")
