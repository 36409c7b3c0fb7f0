"""Step 3: the position interpolations overlaid."""

from __future__ import annotations

import streamlit as st

from pages.views.boxes import refused
from pages.views.glossary import term_help
from pages.views.lessons.step import FACTORS, answer, question
from pages.views.render import picture
from qroar_core.errors import QRoarError
from qroar_core.figures.lessons import interpolations as figures
from qroar_core.interpolations.tie import EXAMPLE, parse_ties
from qroar_core.lessons.heads import Head
from qroar_core.lessons.interpolations import bends


@st.fragment
def interpolations_step(head: Head) -> None:
    """Frequencies of every method at one factor."""
    question("interpolation")
    left, right = st.columns(2)
    factor = left.select_slider(
        "Factor s", FACTORS, 4.0, key="learn_factor", persist_state="session", format_func="×{:g}".format
    )
    typed = right.text_input(
        "Tied pairs",
        key="learn_tie",
        persist_state="session",
        placeholder=f"none; {EXAMPLE}",
        help=term_help("Tied frequencies"),
    )
    try:
        shown = bends(head, factor, parse_ties(typed))
    except QRoarError as problem:
        refused(f"{problem}. Shown without ties.")
        shown = bends(head, factor)
    picture(figures.bends(shown), "learn bends")
    st.dataframe(figures.summary(shown), hide_index=True, key="learn_bends_summary")
    answer(
        "Linear interpolation divides every frequency by s: all angles are known again, but neighbours move closer "
        "together on the fast clocks. NTK raises the base θ instead, so that the slowest pair is slowed by s and the "
        "fastest not at all; dynamic NTK does so by the length at hand. YaRN and llama3 leave pairs alone that turn "
        "often in the native window, slow the ones that never complete a turn by s, and blend between; LongRoPE takes "
        "a searched list. YaRN and LongRoPE also multiply cos and sin by a > 1, which sharpens attention that a "
        "longer context has blurred. Tied pairs turn as one, or not at all: a step in each curve. That costs a "
        "little, and lets a transform mix what would otherwise have to stay apart.",
        "learn_answer_bends",
    )
