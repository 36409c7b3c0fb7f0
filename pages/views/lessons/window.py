"""Step 2: wavelengths and the trained window."""

from __future__ import annotations

import streamlit as st

from pages.views.lessons.step import FACTORS, answer, question
from pages.views.render import picture
from qroar_core.figures.lessons import window as figures
from qroar_core.lessons.heads import Head
from qroar_core.lessons.window import window


@st.fragment
def window_step(head: Head) -> None:
    """Which pairs meet new angles at length L."""
    question("window")
    native = head.original_context
    factor = st.select_slider(
        "Context length L",
        FACTORS,
        4.0,
        key="learn_length",
        persist_state="session",
        format_func=lambda s: f"{s:g} native windows, {round(s * native):,} tokens",
    )
    shown = window(head, round(factor * native))
    picture(figures.window(shown), "learn window")
    answer(
        "A pair whose wavelength exceeds the native window turned through only a part of its circle in training. Read "
        "further without interpolation, and its hand points where it never pointed before: the model was never "
        "trained on such an angle, and perplexity rises steeply soon after the window. The fast pairs have seen every "
        "angle many times over; for them a longer context is nothing new. Position interpolation therefore has to "
        "slow the **slow** pairs.",
        "learn_answer_window",
    )
