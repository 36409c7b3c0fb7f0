"""The table of nulls as pages and the report show it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from qroar_core.diagnostics.null import NullRow
from qroar_core.statistics.digits import shown

NUMBERS = ("measured", "null", "low", "high")


def null_table(rows: Sequence[NullRow]) -> pd.DataFrame:
    """One row a quantity: measured, null, and the range of the null's draws."""
    columns = ["diagnostic", "quantity", "measured", "null", "low", "high", "control"]
    return pd.DataFrame([row.model_dump() for row in rows], columns=columns)


def null_words(row: NullRow, none: str = "") -> dict[str, str]:
    """The numbers of a row in words, to the place that the range of its null supports."""
    error = None if row.low is None or row.high is None else (row.high - row.low) / 2
    return {name: shown(getattr(row, name), error, none=none) for name in NUMBERS}


def in_words(rows: Sequence[NullRow]) -> pd.DataFrame:
    """`null_table` with its numbers in words."""
    said = [null_words(row) for row in rows]
    return null_table(rows).assign(**{name: [row[name] for row in said] for name in NUMBERS})
