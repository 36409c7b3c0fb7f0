"""Apply and Undo on the loaded weights, with the state always said."""

from __future__ import annotations

import streamlit as st

from pages.parts.candidates import name_of
from pages.parts.watch import running
from pages.parts.work import patching
from qroar_core.escape import code, literal
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel


def patch_buttons(loaded: LoadedModel, scales: Scales | None, offered: dict[str, tuple[Scales, str]]) -> None:
    """Both buttons and the state. A change waits its turn like every other job on the device.

    Args:
        scales: what Apply puts in, or None when nothing is chosen. offered: names what is in.
    """
    inside = name_of(loaded.applied, offered)
    changing = running(patching.key(loaded))
    same = bool(inside) and scales is not None and inside == name_of(scales, offered)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="patch"):
        state = f"**{literal(inside)} applied** to" if inside else "**as loaded**, no scales in"
        st.markdown(f"The weights in memory: {state} {code(loaded.name)}.")
        nothing = scales is None or scales.is_identity
        why = "Every scale is 1: there is nothing to apply." if nothing else "W_Q and W_K times these scales"
        if st.button("Apply", disabled=same or nothing or changing, icon=":material/check:",
                     help="These scales are in already." if same else why):  # fmt: skip
            patching.start(loaded, scales)
            st.rerun()
        if st.button("Undo", disabled=not inside or changing, icon=":material/undo:",
                     help="The checkpoint's weights, bit for bit"):  # fmt: skip
            patching.start(loaded, None)
            st.rerun()
    if inside:
        st.caption("Diagnose, Tune and Evaluate always start from the checkpoint's own weights, applied or not.")
