"""What the Export page offers to choose from, kept with the visitor's choice: another page or a reload forgets none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import streamlit as st

from pages.state import session
from pages.state.choice import ToExport
from pages.state.clicks import carried_out
from pages.state.widget_state import fill
from qroar_core.escape import literal


def export_menu(
    label: str, options: Sequence[str], field: Literal["scales", "format"], words: Callable[[str], str] = str
) -> str:
    """A menu that stands at what was chosen, or at the first of `options` where nothing was.

    Args:
        field: of `ToExport`. words: says an option in full.
    """
    key = f"export {field}"
    asked = getattr(session.choice().export or ToExport(), field)
    picked = asked if asked in options else options[0]
    fill(key, (asked, *options), {key: picked})
    taken = st.selectbox(label, options, format_func=words, key=key, on_change=_take, args=(key, field))
    if asked and asked not in options:
        st.warning(f"{label}: {literal(asked)} was chosen, and none exists under this setup.")
    return taken


@carried_out
def _take(key: str, field: str) -> None:
    now = session.choice()
    session.choose(replace(now, export=replace(now.export or ToExport(), **{field: st.session_state[key]})))
