"""The table of nulls as pages and the report show it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from qroar_core.diagnostics.null import NullRow


def null_table(rows: Sequence[NullRow]) -> pd.DataFrame:
    """One row a quantity: measured, null, and the range of the null's draws."""
    columns = ["diagnostic", "quantity", "measured", "null", "low", "high", "control"]
    return pd.DataFrame([row.model_dump() for row in rows], columns=columns)
