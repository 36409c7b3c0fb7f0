"""Each diagnostic of a page beside its null: what the same quantity reads when there is nothing to see."""

from __future__ import annotations

import streamlit as st

from pages.parts.show import numbers
from qroar_core.figures.nulls import null_table
from qroar_core.results import Diagnosis


def nulls(result: Diagnosis, *parts: str) -> None:
    """The rows of these fields of the diagnosis, all of them where none is named; nothing is drawn without rows."""
    rows = result.null_rows(*parts)
    if not rows:
        return
    with st.expander("What would these read if there were nothing to see?"):
        numbers(null_table(rows), "nulls")
        st.caption("Measured as above, but with the effect removed in the way that `control` says. Low and high are "
                   "the ends over all repeats: set their number under Options, or by `diagnose --null`.")  # fmt: skip
