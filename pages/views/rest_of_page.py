"""What ends a page of diagnostics: those that its own figures leave out, and all of them beside their nulls."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.views.render import download, heading, picture
from qroar_core.diagnostics.figures import figures_of
from qroar_core.diagnostics.registry import on_page, parts_of
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.by_group import Draw
from qroar_core.figures.cache_by_result import once
from qroar_core.figures.nulls import in_words, null_table


def rest_of_page(page: str, result: Diagnosis, every_null: bool = False) -> None:
    """A section for each diagnostic of this page that has no field of its own in the diagnosis, then the nulls.

    Args:
        page: by its name in the menu.
        every_null: the nulls of all diagnostics, not of this page's alone.
    """
    for name, diagnostic in on_page(page).items():
        if name in result.others:
            heading(diagnostic.label, name, divider=True)
            figures: dict[str, Draw] = figures_of(name)
            for key, draw in figures.items():
                for i, shown in enumerate(draw(result)):
                    picture(shown, f"{key}-{i}")
    _nulls(result, *(() if every_null else (part for name in on_page(page) for part in parts_of(name))))


def _nulls(result: Diagnosis, *parts: str) -> None:
    """The rows of these parts of the diagnosis, all of them where none is named; nothing is drawn without rows."""
    tables = _tables(result, *parts)
    if tables is None:
        return
    exact, words = tables
    with st.expander("What would these read if there were nothing to see?"):
        st.dataframe(words, hide_index=True, key="nulls table")
        download(exact, "nulls")
        st.caption(
            "Measured as above, but with the effect removed in the way that `control` names. Low and high are "
            "the ends over all repeats: set their number under Options, or by `diagnose --null`."
        )


@once
def _tables(result: Diagnosis, *parts: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Exact and as shown; None without rows.

    Their quantiles take longer than the rest of the Outliers page: once for a result.
    """
    rows = result.null_rows(*parts)
    return (null_table(rows), in_words(rows)) if rows else None
