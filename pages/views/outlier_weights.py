"""W_Q and W_K on the Outliers page: rows with their bands, columns, and what they cost a weight quantizer."""

from __future__ import annotations

from collections.abc import Hashable

import streamlit as st

from pages.state import selection
from pages.state.widget_state import one_of
from pages.views.render import folded, heading, picture
from qroar_core.diagnostics.outliers import figure_weights as weights
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.escape import literal

MENUS = ("outlier matrix", "outlier width", "outlier matrix layer")


def weight_outliers(by_rule: Diagnosis, of: Hashable) -> None:
    """The section on the weights; one line where a model or an older file has none.

    Args:
        by_rule: with outliers by the rule picked on the page.
        of: what was diagnosed.
    """
    heading("Outliers of W_Q and W_K", "outliers-of-weights")
    found = by_rule.outliers
    if not found.matrix_maps:
        why = found.no_matrices or "this diagnosis is from an older version; diagnose again"
        st.info(f"Not available: {literal(why)}.")
        return
    first = next(iter(found.matrix_maps))
    selection.keep("outlier weights", of, dict(zip(MENUS, (first, "int4", weights.loudest_layer(by_rule, first)))))
    with folded("Where the outliers of W_Q and W_K lie, and what they cost a weight quantizer") as opened:
        if opened:
            with st.container(horizontal=True, vertical_alignment="bottom"):
                matrix = one_of("Matrix", list(found.matrix_maps), MENUS[0])
                width = one_of("Rounded to", list(weights.WIDTHS), MENUS[1])
                layer = st.selectbox(
                    "Layer of the map",
                    range(len(found.matrix_maps[matrix].rows)),
                    key=MENUS[2],
                    width=140,
                    format_func=lambda i: str(by_rule.layer_number(i)),
                )
            selection.remember("outlier weights", of, *MENUS)
            picture(weights.rows(by_rule, matrix, layer), "outlier-rows")
            picture(weights.columns(by_rule, matrix), "outlier-columns")
            picture(weights.counts(by_rule, matrix), "outlier-row-counts")
            picture(weights.error_share(by_rule, matrix, width), "outlier-weight-error")
            picture(weights.error_by_channel(by_rule, matrix, width), "outlier-weight-channels")
