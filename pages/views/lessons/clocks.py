"""Step 1: turning clocks."""

from __future__ import annotations

import streamlit as st

from pages.views.lessons.step import answer, question
from pages.views.render import picture
from qroar_core.figures.lessons import clocks as figures
from qroar_core.lessons.clocks import clocks
from qroar_core.lessons.heads import Head

STRIDES = [1, 4, 16, 64, 256]
START = 300  # tokens: far enough that most hands have left their start


@st.fragment
def clocks_step(head: Head) -> None:
    """Where the hands stand, and that the angle between them does not depend on the position."""
    question("clocks")
    one, two, three = st.columns([3, 2, 2])
    # its range is the head's, so what is set is not kept while another step is shown
    position = one.slider("Position of the key, tokens", 0, 2 * head.original_context, START, key="learn_position")
    distance = two.slider("Distance to the query, tokens", 0, 64, 8, key="learn_distance", persist_state="session")
    stride = three.select_slider("Play: tokens a frame", STRIDES, 1, key="learn_stride", persist_state="session")
    picture(figures.clocks(clocks(head, position, distance, stride)), "learn clocks")
    answer(
        "RoPE takes the channels of q and k in pairs and turns pair i by $\\omega_i = \\theta^{-2i/r}$ at every token: "
        "a row of clocks, the first turning once in six tokens, the last once in tens of thousands or more. A pair "
        "adds $|q|\\,|k|\\cos(\\text{angle between its hands})$ to the logit, and position enters that angle only as "
        "$\\omega_i$ times the **distance**, wherever the two tokens are. So attention reads relative positions: "
        "fast clocks separate neighbours, slow ones separate far from near.",
        "learn_answer_clocks",
    )
