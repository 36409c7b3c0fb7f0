"""What the eight steps share: the row of lessons, heading and answer of each, and the head of steps 1 to 4."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.state import session
from pages.state.clicks import carried_out
from pages.state.lessons import LESSONS, asked, named
from pages.state.widget_state import chosen, fill
from pages.views.focus import ONWARD
from qroar_core.lessons.heads import HEADS, Head

FACTORS = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0]
FORM = "lesson"


def pick_lesson() -> str:
    """The lesson that is shown, which the address names too."""
    now = session.choice()
    fill(FORM, now.lesson, {"learn_lesson": now.lesson})
    picked = st.pills(
        "Lessons",
        list(LESSONS),
        format_func=named,
        key="learn_lesson",
        required=True,
        label_visibility="collapsed",
    )
    assert picked is not None  # filled, and a required one cannot be emptied
    if picked != now.lesson:
        session.choose(replace(now, lesson=picked), chosen(FORM, picked))
    return picked


def next_lesson(now: str) -> None:
    """The way on to the step behind this one, and behind the last one to a model."""
    left = list(LESSONS)[list(LESSONS).index(now) + 1 :]
    if left:
        st.button(f"Next: {asked(left[0])}", key=ONWARD, on_click=_open, args=(left[0],))
    else:
        st.page_link("pages/start.py", label="Now on a real model: Start", icon=":material/arrow_forward:")


@carried_out
def _open(lesson: str) -> None:
    session.choose(replace(session.choice(), lesson=lesson))


def pick_head() -> Head:
    """The attention head that steps 1 to 4 are shown on."""
    left, right = st.columns([1, 2], vertical_alignment="center")
    head = left.selectbox(
        "RoPE of",
        HEADS,
        format_func=lambda h: f"RoPE of {h.name}",
        key="learn_head",
        label_visibility="collapsed",
        persist_state="session",
    )
    right.caption(
        f"θ = {head.theta:,.0f}, {head.n_pairs} RoPE pairs ({head.head_dim} channels), native window "
        f"{head.original_context:,} tokens. Lessons 1 to 4 follow this choice."
    )
    return head


def question(lesson: str) -> None:
    """Heading of a step."""
    st.header(asked(lesson), anchor=lesson, divider="gray")


def answer(text: str, key: str) -> None:
    """Two to four sentences, folded away so that a class can guess first."""
    with st.expander("The answer", icon=":material/lightbulb:", key=key):
        st.markdown(text)
