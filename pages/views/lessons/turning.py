"""Step 5: the axis-aligned grid."""

from __future__ import annotations

import streamlit as st

from pages.views.lessons.step import answer, question
from pages.views.render import picture
from qroar_core.figures.lessons import turning as figures
from qroar_core.lessons.turning import turning


@st.fragment
def turning_step() -> None:
    """A turning pair on a grid whose step another channel may set."""
    question("grid")
    one, two, three, four = st.columns(4)
    bits = one.slider("Bits", 2, 8, 4, key="learn_bits", persist_state="session")
    length = two.slider("Length of the pair", 0.25, 4.0, 1.0, 0.25, key="learn_pair", persist_state="session")
    other = three.slider(
        "Another channel",
        0.0,
        16.0,
        2.0,
        0.5,
        key="learn_other",
        persist_state="session",
        help="Magnitude of a channel that shares the pair's step.",
    )
    degrees = four.slider("Angle of the pair, degrees", 0, 360, 30, key="learn_angle", persist_state="session")
    picture(figures.turning(turning(bits, length, other, degrees)), "learn turning")
    answer(
        "A quantizer rounds each channel by itself, so its grid lies along the axes while RoPE turns the pair "
        "across it. The same pair is stored well at one position and badly at another: noise that depends on position. "
        "One step serves all channels of the token, and the **largest** sets it. Raise the other channel and the grid "
        "gets coarser until a few points are left for this pair, or none. A slow pair hardly turns within the context: "
        "lying on an axis, it sets the step for all. Tune can **turn such a pair** off the axis for good, at no cost: "
        "q and k turn together.",
        "learn_answer_grid",
    )
