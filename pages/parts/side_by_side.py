"""The same prompt continued by the models side by side, departures marked."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import streamlit as st

from pages.parts.show import picture
from pages.parts.watch import running, watch
from pages.parts.work import continuing
from qroar_core.escape import literal
from qroar_core.figures import continuations as drawn
from qroar_core.models.loaded import LoadedModel
from qroar_core.results import Continuations
from qroar_core.runs.setting import Setting
from qroar_core.specs import ContinuationSpec

HELD_OUT, OWN = "a held-out window of the current length", "my own text"
MOST_TOKENS = 512  # of a continuation
MOST_CHARACTERS = 200_000  # of a prompt typed here
TEXT = "white-space: pre-wrap; overflow-wrap: anywhere; font-family: monospace; font-size: 0.85rem; line-height: 1.5"


def side_by_side(loaded: LoadedModel, setting: Setting, outcome: Any) -> None:
    """The form, its job and what came of it."""
    st.subheader("The same prompt, continued by each model")
    spec = _form(setting)
    key = continuing.key(loaded, setting, outcome, spec)
    if st.button("Continue the prompt", disabled=running(key), icon=":material/edit_note:"):
        continuing.start(loaded, setting, outcome, spec)
        st.rerun()
    found = watch(key)
    if found is not None:
        _show(found)
    elif not running(key):
        st.caption("Greedy, temperature 0: every difference between the texts comes from the model, none from "
                   "sampling.")


def _form(setting: Setting) -> ContinuationSpec:
    spec = continuing.held_out(setting)
    most = max(1, min(MOST_TOKENS, (spec.length or 2) // 2))
    if st.session_state.get("new tokens", 0) > most:
        st.session_state["new tokens"] = most  # asked for under a longer context
    one, two = st.columns([3, 1])
    kind = one.radio("Prompt", [HELD_OUT, OWN], horizontal=True, key="prompt kind", persist_state="session")
    tokens = two.number_input("New tokens", 1, most, min(spec.tokens, most), key="new tokens", persist_state="session")
    prompt = ""
    if kind == OWN:
        prompt = st.text_area("Text to continue", key="prompt", max_chars=MOST_CHARACTERS, persist_state="session",
                              placeholder="The longer it is, the more the cache matters.")  # fmt: skip
    return replace(spec, tokens=int(tokens), prompt=prompt)


def _show(found: Continuations) -> None:
    left = f" (its first {found.left_out} tokens did not fit)" if found.left_out else ""
    st.caption(f"Prompt: {found.prompt_tokens:d} tokens, {literal(found.origin)}{literal(left)}. It ends with:")
    with st.container(border=True, height=140):
        st.html(f'<div style="{TEXT}; opacity: 0.8">…{html.escape(found.prompt_end)}</div>')
    cards = [*found.rows]
    for first in range(0, len(cards), 2):
        for column, row in zip(st.columns(2), cards[first : first + 2], strict=False):
            with column.container(border=True, height="stretch"):
                st.markdown(f"**{literal(drawn.name_of(row))}**: {literal(drawn.departure(row, found.rows[0]))}")
                st.html(f'<div style="{TEXT}">{drawn.marked(row)}</div>')
    if found.actual:
        with st.container(border=True):
            st.markdown("**The text itself goes on**")
            st.html(f'<div style="{TEXT}">{html.escape(found.actual)}</div>')
    picture(drawn.certainty(found), "continuation")
