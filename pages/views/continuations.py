"""The same prompt continued by the models side by side, departures marked."""

from __future__ import annotations

import html
from dataclasses import replace

import streamlit as st

from pages import jobs
from pages.state.clicks import pressed
from pages.views.job_progress import result_or_progress, running
from pages.views.render import heading, picture
from qroar_core.escape import literal
from qroar_core.evaluation import continuations_figure as drawn
from qroar_core.evaluation.continuations_result import Continuations
from qroar_core.models.loaded import LoadedModel
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.specs import ContinuationSpec

HELD_OUT, OWN = "a held-out window of the current length", "my own text"
TOKENS, MOST_TOKENS = 48, 512  # of a continuation, unless a person asks for another number
MOST_CHARACTERS = 200_000  # of a prompt typed here
TEXT = "white-space: pre-wrap; overflow-wrap: anywhere; font-family: monospace; font-size: 0.85rem; line-height: 1.5"


def continuations(loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None) -> None:
    """The form, its job and what came of it."""
    heading("The same prompt, continued by each model", "continued")
    spec = _form(setting)
    key = jobs.continue_prompt.key(loaded, setting, outcome, spec)
    if click := pressed(
        "Continue the prompt",
        disabled=running(key),
        icon=":material/edit_note:",
    ):
        jobs.continue_prompt.start(loaded, setting, outcome, spec)
        click.over()
    found = result_or_progress(key)
    if found is not None:
        _show(found)
    elif not running(key):
        st.caption(
            "Greedy, temperature 0: every difference between the texts comes from the model, none from sampling."
        )


def held_out(setting: Setting) -> ContinuationSpec:
    """The continuation of a held-out window of the current length."""
    length = setting.search.length or setting.diagnosis.length or 2
    return ContinuationSpec(length=length, tokens=min(TOKENS, length // 2))


def _form(setting: Setting) -> ContinuationSpec:
    spec = held_out(setting)
    most = max(1, min(MOST_TOKENS, (spec.length or 2) // 2))
    if st.session_state.get("new tokens", 0) > most:
        st.session_state["new tokens"] = most  # asked for under a longer context
    one, two = st.columns([3, 1])
    kind = one.radio("Prompt", [HELD_OUT, OWN], horizontal=True, key="prompt kind", persist_state="session")
    tokens = two.number_input("New tokens", 1, most, min(spec.tokens, most), key="new tokens", persist_state="session")
    prompt = ""
    if kind == OWN:
        prompt = st.text_area(
            "Text to continue",
            key="prompt",
            max_chars=MOST_CHARACTERS,
            persist_state="session",
            placeholder="The longer it is, the more the cache matters.",
        )
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
            st.markdown("**The text's own continuation**")
            st.html(f'<div style="{TEXT}">{html.escape(found.actual)}</div>')
    picture(drawn.certainty(found), "continuation")
