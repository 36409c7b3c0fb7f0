"""The table of bands on its page: spans as on the command line, sorted by the numbers beneath them."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from qroar_core.diagnostics.bands import figure as bands
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.evidence.prediction.result import Prediction


def table(result: Diagnosis, predicted: Prediction | None) -> None:
    """Draw it; the frame beneath holds every column, of which some are shown."""
    frame = bands.table(result, predicted)
    cells, titles, helps = bands.shortened(result, predicted), bands.short_titles(), bands.helps()
    styled = frame.style
    for name, words in cells.items():
        for row, said in enumerate(words):  # a word for each cell: equal numbers may stand for other spans
            styled = styled.format(_always(said), subset=([row], [name]), na_rep=said)
    shown = {
        name: st.column_config.Column(titles[name], help=helps[name], pinned=name == "band" or None) for name in frame
    }
    st.dataframe(styled, hide_index=True, key="bands table", column_config=shown, column_order=bands.order(frame))


def _always(words: str) -> Callable[[object], str]:
    return lambda _: words
