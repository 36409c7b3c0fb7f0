"""How far hidden states drift from the reference, layer by layer and position by position."""

from __future__ import annotations

import pandas as pd

from qroar_core.figures.maps import Panel, side_by_side
from qroar_core.figures.picture import POSITION_AXIS, Picture, bin_names
from qroar_core.results import Diagnosis


def hidden_states(diagnosis: Diagnosis) -> Picture | None:
    """SQNR of each layer's output by position."""
    seen = diagnosis.hidden
    if seen is None:
        return None
    bins = bin_names(diagnosis.position_edges)
    table = pd.DataFrame(
        [
            {"layer": diagnosis.layer_number(i), "positions": bins[j], "sqnr_db": value, "cosine": seen.cosine[i][j]}
            for i, row in enumerate(seen.sqnr_db)
            for j, value in enumerate(row)
        ]
    )
    return Picture(
        "How far do the hidden states drift from the reference?",
        side_by_side([Panel("", seen.sqnr_db, bins, POSITION_AXIS, "positions")], diagnosis.layer_names(), "dB"),
        table,
        "Signal over difference of each layer's output, in dB: 20 dB is a difference of a tenth, higher is better.",
    )
