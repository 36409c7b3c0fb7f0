"""Step 8: two clocks at one frequency."""

from __future__ import annotations

import streamlit as st

from pages.views.glossary import term_help
from pages.views.lessons.step import answer, question
from pages.views.render import picture
from qroar_core.figures.lessons import tied_clocks as figures
from qroar_core.lessons.captured_head import KV_HEAD, LAYER
from qroar_core.lessons.commuting import FIRST, LAST, LOUDEST
from qroar_core.lessons.tied_clocks import tied_clocks

TURNS = [0.0, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5]  # of the pairs' geometric mean
LENGTHS = [128, 256, 512, 1024]  # tokens


@st.fragment
def tied_clocks_step() -> None:
    """Two neighbouring pairs tied: what it costs by distance, and what mixing them buys."""
    question("tying")
    one, two, three = st.columns(3)
    first = one.select_slider(
        "Pairs to tie",
        range(FIRST, LAST + 1),
        LOUDEST,
        key="learn_tied_pairs",
        persist_state="session",
        format_func=lambda i: f"{i} and {i + 1}",
        help=term_help("Tied frequencies"),
    )
    turn = two.select_slider(
        "Their frequency",
        TURNS,
        1.0,
        key="learn_tied_turn",
        persist_state="session",
        format_func=lambda x: f"×{x:g} of their mean" if x else "still",
        help="A multiple of the geometric mean of the two frequencies.",
    )
    length = three.select_slider(
        "Length L, tokens", LENGTHS, 1024, key="learn_tied_length", persist_state="session", format_func="{:,}".format
    )
    shown = tied_clocks(first, turn, length)
    picture(figures.tied_clocks(shown), "learn tied")
    with st.container(horizontal=True, gap="large"):
        for pair, own in enumerate(shown.own, first):
            off = (shown.common - own) * length
            st.metric(f"Pair {pair:d} is off at L by", f"{off:+.2f} rad", border=True, width="content")
        st.metric("Cost: logit error of the tie alone", f"{shown.tied:.1%}", border=True, width="content")
        st.metric("Tokens whose largest channel is here", f"{shown.loudest:.0%}", border=True, width="content")
    st.caption(
        f"q and K of layer {LAYER}, KV head {KV_HEAD} of the demo model under YaRN ×4, its first {length:,} tokens, "
        "one int4 scale a token. Mixed: an orthonormal 4 × 4 matrix that commutes with the tied turning and makes the "
        f"four channels even. It changes no tied logit by more than {shown.mixed_logit_change:.0e} of their RMS."
    )
    answer(
        "A tied pair turns too fast or too slowly by $|\\omega_i - \\omega|$ a token, and its angle is off by that "
        "times the **distance**: the cost grows with the length, and is small where neighbours are slow. What it buys "
        "is room: pairs of one frequency may be mixed by any complex matrix, still ones by any real one, and the loud "
        "channel that set the int4 step for all is spread over four. It pays where the token's largest channel lies "
        "in the group and the pairs turn together; still pairs cost more, and pairs that were never loud buy nothing. "
        "So groups are chosen at the length that will be served.",
        "learn_answer_tying",
    )
