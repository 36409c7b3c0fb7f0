"""Picking a cell of a map by click or by menu. A click writes into the menus' state, so the two never differ."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import streamlit as st

from pages.state.clicks import carried_out


def keep(form: str, of: Hashable, values: Mapping[str, Any]) -> None:
    """Fill the menus before they are drawn: with what was picked from the same result, else with `values`.

    Streamlit forgets a widget's value when its page is left; this one is remembered by `remember`.
    """
    known, picked = st.session_state.get(form, (None, {}))
    fresh = known != of
    for key, value in values.items():
        if fresh or key not in st.session_state:
            st.session_state[key] = value if fresh else picked.get(key, value)
    if fresh:
        st.session_state[form] = (of, dict(values))  # now: what is picked while the page is drawn is no fresh result's


def remember(form: str, of: Hashable, *keys: str) -> None:
    """Keep the menus' values for the next time this page shows the same result."""
    st.session_state[form] = (of, {key: st.session_state[key] for key in keys})


def on_click(chart: str, take: Callable[[list], Mapping[str, Any]]) -> Callable[[], None]:
    """What to do when a cell of `chart` is clicked: put `take(the cell's customdata)` into the menus."""

    @carried_out
    def picked() -> None:
        points = st.session_state[chart].selection.points
        if points:
            st.session_state.update(take(points[0]["customdata"]))

    return picked
