"""A `Picture` on the page: finding, figure, how to read it, numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import pandas as pd
import streamlit as st

from pages.views.boxes import links
from pages.views.theme import UNSEEN
from qroar_core.escape import literal
from qroar_core.figures import Picture
from qroar_core.statistics.digits import LARGEST, OF_LARGEST

MAGNITUDE = f"%.{LARGEST}g"  # of the largest of a sample; the CSV holds all digits
OPEN = False  # whether folded figures are open at first
HEAD, TALLEST = 38, 680  # pixels of a table with high rows: its heading, and all of it


_FOUND: ContextVar[list[tuple[str, str]] | None] = ContextVar("found", default=None)


@contextmanager
def findings_first() -> Iterator[None]:
    """What the page found, in one list above its figures: each finding is a link to its figure, each heading to it.

    The list is filled when the figures are drawn. Of a single entry there is none, and figures inside `folded` are
    not in it: a link cannot open them.
    """
    place, found = st.container(), list[tuple[str, str]]()
    token = _FOUND.set(found)
    try:
        yield
    finally:
        _FOUND.reset(token)
    if len(found) > 1:
        with place.container(border=True):
            links("On this page", found)


@contextmanager
def folded(what: str) -> Iterator[bool]:
    """Figures that answer what few readers ask, behind one line that says what they show.

    Yields whether a reader has opened them. Closed ones are neither computed nor sent, which halves the time that a
    page of diagnostics takes to appear: draw nothing then.
    """
    token = _FOUND.set(None)
    try:
        fold = st.expander(literal(what), OPEN, key=f"fold: {what}", icon=":material/unfold_more:", on_change="rerun")
        with fold:
            yield bool(fold.open)
    finally:
        _FOUND.reset(token)


def heading(words: str, anchor: str, level: Literal["section", "box"] = "section", divider: bool = False) -> None:
    """A heading that the list of the page links to: of a section, or inside a box as that of a figure."""
    if (found := _FOUND.get()) is not None:
        found.append((anchor, words))
    draw = st.header if level == "section" else st.subheader
    draw(literal(words), anchor=anchor, divider="gray" if divider else False)


def picture(shown: Picture | None, key: str, table: bool = True, **chart: Any) -> None:
    """Draw one picture with its table; None draws nothing. `key` is unique on the page, `chart` goes to Streamlit.

    A picture that is drawn anew every second goes without its table: that would be sent every second, too.
    """
    if shown is None:
        return
    with st.container(border=True):
        heading(shown.title, key.replace(" ", "-"), "box")  # a link takes no blank
        st.plotly_chart(shown.figure, key=key, alt=shown.alt, config={"displaylogo": False}, **chart)
        st.caption(literal(f"{shown.how_to_read} {shown.sample}"))
        if table:
            with st.expander("The numbers"):
                numbers(shown.table, key)


def figures_to_come() -> None:
    """While a job computes what is drawn next: the browser loads the megabytes of script that draw a figure."""
    with st.container(key=UNSEEN):
        st.plotly_chart({"data": [{"type": "scatter"}]}, key=f"{UNSEEN} chart")


def numbers(table: pd.DataFrame, key: str, columns: dict[str, Any] | None = None, height: int | None = None) -> None:
    """A table with its CSV to download; `columns` is Streamlit's column_config, `height` pixels of a row.

    In a row of more than one line's height, long words take several lines, and the table is higher for it.
    """
    columns = {name: st.column_config.NumberColumn(format=MAGNITUDE) for name in table if name in OF_LARGEST} | (
        columns or {}
    )
    whole: int | Literal["auto"] = "auto" if height is None else min(HEAD + height * len(table), TALLEST)
    st.dataframe(table, hide_index=True, key=f"{key} table", column_config=columns, row_height=height, height=whole)
    download(table, key)


def download(table: pd.DataFrame, key: str) -> None:
    """The button under a table."""
    csv = table.to_csv(index=False)
    st.download_button("Download as CSV", csv, f"{key}.csv", "text/csv", key=f"{key} csv", on_click="ignore")
