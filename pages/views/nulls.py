"""Each diagnostic of a page beside its null: what the same quantity reads when there is nothing to see."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.views.render import numbers
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.figures.nulls import null_table
from qroar_core.figures.once import once


def nulls(result: Diagnosis, *parts: str) -> None:
    """The rows of these fields of the diagnosis, all of them where none is named; nothing is drawn without rows."""
    table = _table(result, *parts)
    if table is None:
        return
    with st.expander("What would these read if there were nothing to see?"):
        numbers(table, "nulls")
        st.caption(
            "Measured as above, but with the effect removed in the way that `control` says. Low and high are "
            "the ends over all repeats: set their number under Options, or by `diagnose --null`."
        )


@once
def _table(result: Diagnosis, *parts: str) -> pd.DataFrame | None:
    """None without rows. Their quantiles take longer than the rest of the Outliers page: once for a result."""
    rows = result.null_rows(*parts)
    return null_table(rows) if rows else None
