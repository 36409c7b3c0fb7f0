"""What the eight steps share: the question above, the answer below, and which head they are shown on."""

from __future__ import annotations

import streamlit as st

from qroar_core.lessons.heads import HEADS, Head

QUESTIONS = {  # anchor: question
    "clocks": "How does RoPE tell a model where a token stands?",
    "window": "What has a model never seen when its context grows?",
    "interpolation": "How do position interpolations bend the frequencies?",
    "aliasing": "When does a far token look near?",
    "grid": "Why does a quantizer's error depend on the position?",
    "scale": "What can one scale per band repair?",
    "commuting": "What commutes with a rotation?",
    "tying": "What does tying two clocks cost and buy?",
}
FACTORS = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0]


def pick_head() -> Head:
    """The attention head all steps are shown on."""
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    head = left.selectbox("RoPE of", HEADS, format_func=lambda h: h.name, key="learn_head")
    right.caption(
        f"θ = {head.theta:,.0f}, {head.n_pairs} RoPE pairs ({head.head_dim} channels), native window "
        f"{head.original_context:,} tokens. Steps 1 to 4 follow this choice."
    )
    return head


def contents() -> None:
    """The questions as links."""
    st.markdown("\n".join(f"{n}. [{text}](#{anchor})" for n, (anchor, text) in enumerate(QUESTIONS.items(), 1)))


def question(anchor: str) -> None:
    """Heading of a step."""
    number = list(QUESTIONS).index(anchor) + 1
    st.header(f"{number}. {QUESTIONS[anchor]}", anchor=anchor, divider="gray")


def answer(text: str, key: str) -> None:
    """Two to four sentences, folded away so that a class can guess first."""
    with st.expander("The answer", icon=":material/lightbulb:", key=key):
        st.markdown(text)
