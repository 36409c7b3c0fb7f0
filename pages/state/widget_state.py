"""Widgets that follow a spec: filled from it when it changed elsewhere, left alone while a person edits."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import streamlit as st

Number = TypeVar("Number", int, float)
T = TypeVar("T")
FILLED = "what forms are filled from"  # session: form -> spec
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
    filled = _filled()
    fresh = form not in filled or filled[form] != spec
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
    filled[form] = spec


def chosen(form: str, spec: Hashable) -> Callable[[], None]:
    """Notes what the form itself made of its widgets, which the next run need not be told: they may have changed.

    To be called with the write that makes `spec` the visitor's (`session.choose` does): a run that ended between the
    two would fill the form anew, over what was typed.
    """
    return partial(_filled().__setitem__, form, spec)


def _filled() -> dict[str, Hashable]:
    filled: dict[str, Hashable] = st.session_state.setdefault(FILLED, {})
    return filled


def number(box: Any, label: str, least: Number, most: Number, key: str, **rest: Any) -> Number:
    """A number field of a filled key. What is filled is its default too, which no lost message can take from it.

    A spec made elsewhere may lie beyond what is offered here: it is shown as it is.
    """
    value = type(least)(st.session_state[key])  # Streamlit takes no mixture of whole numbers and others
    return box.number_input(label, min(least, value), max(most, value), value, key=key, **rest)


def menu(box: Any, label: str, options: Sequence[T], key: str, **rest: Any) -> T:
    """A menu of a filled key; what is filled is its default too."""
    return box.selectbox(label, options, options.index(st.session_state[key]), key=key, **rest)


def one_of(label: str, options: Sequence[T], key: str, format_func: Callable[[T], str] | None = None) -> T:
    """Options side by side for a filled key, one of them always picked."""
    picked = st.segmented_control(label, options, key=key, required=True, format_func=format_func)
    assert picked is not None  # filled, and a required one cannot be emptied
    return picked


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
    filled = _filled()
    for form in forms:
        filled.pop(form, None)
