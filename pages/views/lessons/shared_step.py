"""Step 6: a scale per band."""

from __future__ import annotations

import streamlit as st

from pages.views.lessons.step import answer, question
from pages.views.render import picture
from qroar_core.figures.lessons import shared_step as figures
from qroar_core.lessons.shared_step import shared_step


@st.fragment
def shared_step_step() -> None:
    """Two bands on one step, and a symmetric scale on the loud one."""
    question("scale")
    one, two, three = st.columns([3, 2, 2])
    log2_g = one.slider(
        "Scale of the band of large values, log2 g",
        -2.0,
        6.0,
        0.0,
        0.125,
        key="learn_g",
        persist_state="session",
        help="q of this band times g, its k divided by g.",
    )
    loudness = two.slider(
        "Large values over small ones", 1.0, 16.0, 8.0, 0.5, key="learn_loud", persist_state="session"
    )
    bits = three.slider("Bits of the K cache", 2, 8, 4, key="learn_scale_bits", persist_state="session")
    shown = shared_step(bits, loudness, log2_g)
    picture(figures.shared_step(shown), "learn shared")
    with st.container(horizontal=True, gap="large"):
        st.metric("Logit error at this g", f"{shown.error_here:.2%}", border=True, width="content")
        st.metric(f"Least, at log2 g = {shown.best_log2_g:g}", f"{shown.best_error:.2%}", border=True, width="content")
        st.metric("Unquantized, any g changes them by", f"{shown.logit_change:.0e}", border=True, width="content")
    answer(
        "Divide the band of large values of k by g and the common step shrinks with it: the band of small values "
        "spreads over more levels. "
        "Multiply q by the same g and every product q·k stays what it was; both channels of a pair share one g, so "
        f"this holds after any rotation: no g on the axis changes an unquantized logit by more than "
        f"{shown.logit_change:.0e} of the logits' size, the rounding of float64. "
        "Past the best g the band of small values sets the step, and the error lies in the other, whose q is larger. "
        "Q-ROAR searches this g per band, layer and KV head.",
        "learn_answer_scale",
    )
