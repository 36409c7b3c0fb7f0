"""Widgets that follow a spec: filled from it when it changed elsewhere, left alone while a person edits."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import streamlit as st

FILLED = "{} filled from"
PENDING = "filled, perhaps not yet in the browser"  # session: widget key -> (value, when a page was drawn with it)
SURE = 2.0  # seconds after which what a page was drawn with has reached the browser


def fill(form: str, spec: Hashable, values: Mapping[str, Any]) -> None:
    """Put `values` (widget key -> value) into the session before the form's widgets are drawn.

    All of them when `spec` is not what the form showed last (a preset, a link, another page changed it), else
    only those whose widget was not on the page. What a person typed and the spec refused stays to be mended.

    Streamlit tells the browser once, and forgets what a run had to tell when the next run starts before it was
    sent: a run that ends in `st.rerun`, or is followed at once by another. The browser then shows the widget's
    default. So the same is told again until a page was drawn whole and some time went by without a new value.
    """
    remembered = FILLED.format(form)
    fresh = st.session_state.get(remembered) != spec
    pending = st.session_state.setdefault(PENDING, {})
    for key, value in values.items():
        if fresh or key not in st.session_state:
            pending[key] = (value, None)
        if key not in pending:
            continue
        told, drawn = pending[key]
        if drawn is None or st.session_state[key] == told:
            st.session_state[key] = told
        else:
            del pending[key]  # a person has changed it since
    st.session_state[remembered] = spec


def chosen(form: str, spec: Hashable) -> None:
    """What the form itself made of its widgets, which the next run need not be told: they may have changed by then."""
    st.session_state[FILLED.format(form)] = spec


def number(box: Any, label: str, least: float, most: float, key: str, **rest: Any) -> Any:
    """A number field of a filled key. What is filled is its default too, which no lost message can take from it.

    A spec made elsewhere may lie beyond what is offered here: it is shown as it is.
    """
    value = type(least)(st.session_state[key])  # Streamlit takes no mixture of whole numbers and others
    return box.number_input(label, min(least, value), max(most, value), value, key=key, **rest)


def menu(box: Any, label: str, options: Sequence[Any], key: str, **rest: Any) -> Any:
    """A menu of a filled key; what is filled is its default too."""
    return box.selectbox(label, options, options.index(st.session_state[key]), key=key, **rest)


def switch(box: Any, label: str, key: str, **rest: Any) -> bool:
    """A checkbox of a filled key; what is filled is its default too."""
    return bool(box.checkbox(label, st.session_state[key], key=key, **rest))


def delivered() -> None:
    """To be called where a page has drawn its forms and no rerun can follow."""
    now, pending = time.monotonic(), st.session_state.get(PENDING, {})
    st.session_state[PENDING] = {
        key: (value, drawn or now) for key, (value, drawn) in pending.items() if drawn is None or now - drawn < SURE
    }


def forget(*forms: str) -> None:
    """Let these forms be filled anew at the next run, whatever was typed."""
    for form in forms:
        st.session_state.pop(FILLED.format(form), None)
