"""Widgets that follow a spec: filled from it when it changed elsewhere, left alone while a person edits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import streamlit as st

FILLED = "{} filled from"
PENDING = "filled, perhaps not yet in the browser"


def fill(form: str, spec: Hashable, values: Mapping[str, Any]) -> None:
    """Put `values` (widget key -> value) into the session before the form's widgets are drawn.

    All of them when `spec` is not what the form showed last (a preset, a link, another page changed it), else
    only those whose widget was not on the page. What a person typed and the spec refused stays to be mended.
    A run that ends in `st.rerun` may never reach the browser, so what it filled is filled again until `delivered`.
    """
    remembered = FILLED.format(form)
    fresh = st.session_state.get(remembered) != spec
    pending = st.session_state.setdefault(PENDING, {})
    for key, value in values.items():
        if fresh or key not in st.session_state:
            pending[key] = value
        if key in pending:
            st.session_state[key] = pending[key]
    st.session_state[remembered] = spec


def delivered() -> None:
    """To be called where a page has drawn its forms and no rerun can follow."""
    st.session_state[PENDING] = {}


def forget(*forms: str) -> None:
    """Let these forms be filled anew at the next run, whatever was typed."""
    for form in forms:
        st.session_state.pop(FILLED.format(form), None)
