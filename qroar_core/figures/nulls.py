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
    """The numbers of a row in words, to the place that its own error and the range of its null both support."""
    error = coarsest(row)
    words = {name: shown(getattr(row, name), error, none=none) for name in NUMBERS}
    return words | ({"high": row.open_above} if row.open_above else {})


def coarsest(row: NullRow) -> float | None:
    """The larger of the row's own error and half of its null's range; None where neither is known."""
    known = [] if row.error is None else [row.error]
    if row.low is not None and row.open_above and row.null is not None:
        known.append(row.null - row.low)
    elif row.low is not None and row.high is not None:
        known.append((row.high - row.low) / 2)
    return max(known, default=None)


def in_words(rows: Sequence[NullRow]) -> pd.DataFrame:
    """`null_table` with its numbers in words."""
    said = [null_words(row) for row in rows]
    return null_table(rows).assign(**{name: [row[name] for row in said] for name in NUMBERS})
