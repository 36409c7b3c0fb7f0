"""Each diagnostic of a page beside its null: what the same quantity reads when there is nothing to see."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.views.render import download
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.nulls import in_words, null_table
from qroar_core.figures.once import once


def nulls(result: Diagnosis, *parts: str) -> None:
    """The rows of these fields of the diagnosis, all of them where none is named; nothing is drawn without rows."""
    tables = _tables(result, *parts)
    if tables is None:
        return
    exact, words = tables
    with st.expander("What would these read if there were nothing to see?"):
        st.dataframe(words, hide_index=True, key="nulls table")
        download(exact, "nulls")
        st.caption(
            "Measured as above, but with the effect removed in the way that `control` says. Low and high are "
            "the ends over all repeats: set their number under Options, or by `diagnose --null`."
        )


@once
def _tables(result: Diagnosis, *parts: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Exact and as shown; None without rows.

    Their quantiles take longer than the rest of the Outliers page: once for a result.
    """
    rows = result.null_rows(*parts)
    return (null_table(rows), in_words(rows)) if rows else None
