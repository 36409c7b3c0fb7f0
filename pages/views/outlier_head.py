"""The menus of layers and heads on the Outliers page: query heads of Q, KV heads of K."""

from __future__ import annotations

import streamlit as st

from qroar_core.diagnostics.outliers.figure import loudest_head
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.escape import literal

KEY = "outlier head"


def menus(result: Diagnosis, which: str) -> tuple[int, int]:
    """The layer and the head that the large map shows, both counted from 0."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layers, number = range(len(result.outliers.maps[which])), lambda i: str(result.layer_number(i))
        layer = st.selectbox("Layer", layers, key="outlier layer", width=120, format_func=number)
        return layer, _head(result, which, layer)


def _head(result: Diagnosis, which: str, layer: int) -> int:
    """The head that the large map shows; the loudest one where the tensor shown before had more of them."""
    heads, word = range(result.outliers.heads_of(which)), result.outliers.head_word(which)
    if st.session_state[KEY] not in heads:
        st.session_state[KEY] = loudest_head(result, which, layer)
    return st.selectbox(literal(word[0].upper() + word[1:]), heads, key=KEY, width=120)
