"""Outliers: which channels stick out, at which positions, and what they cost the quantizer."""

from functools import partial

import streamlit as st

from pages import jobs
from pages.forms import outlier_rule
from pages.state import selection
from pages.state.widget_state import one_of
from pages.views import glossary, outlier_head, outlier_weights, require
from pages.views.render import findings_first, folded, picture
from pages.views.rest_of_page import rest_of_page
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules as rules
from qroar_core.diagnostics.tail_inflation.result import TENSORS

MENUS = ("outlier tensor", "outlier layer", "outlier head")
FIRST = "k/post"  # what a K cache quantizes

glossary.title("Outliers")
loaded, setting, result = require.diagnosis()
of = jobs.diagnose.key(loaded, setting)
loudest = outliers.loudest_layer(result, FIRST)
selection.keep("outlier map", of, dict(zip(MENUS, (FIRST, loudest, outliers.loudest_head(result, FIRST, loudest)))))
with st.container(horizontal=True, vertical_alignment="bottom"):
    which = one_of("Tensor", [n for n in TENSORS if n in result.outliers.maps], "outlier tensor", TENSORS.__getitem__)
    page = 0
    if outliers.pages(result) > 1:
        here = st.session_state["outlier layer"] // outliers.PANELS
        page = st.selectbox(
            "Layers shown", range(outliers.pages(result)), here, partial(outliers.page_label, result), width=160
        )


def panel(data: list) -> dict:
    """A clicked panel as menu values, with the head that it shows."""
    return {"outlier layer": data[0], "outlier head": outliers.loudest_head(result, which, data[0])}


with findings_first():
    picture(
        outliers.layers(result, which, page, st.session_state["outlier layer"]),
        "outlier-layers",
        on_select=selection.on_click("outlier-layers", panel),
        selection_mode="points",
    )
    layer, head = outlier_head.menus(result, which)
    selection.remember("outlier map", of, *MENUS)
    picture(outliers.channel_map(result, which, layer, head), "outlier-map")
    by_rule = outlier_rule.by_rule(result, of)
    picture(rules.error_share(by_rule), "outlier-error")
    with folded("How many stand out by layer and band, how that changes with length, and the error by channel") as fold:
        if fold:
            picture(rules.counts(by_rule, which), "outlier-counts")
            picture(rules.shift(by_rule, which), "outlier-shift")
            picture(rules.error_by_channel(result), "outlier-channels")
    outlier_weights.weight_outliers(by_rule, of)
    rest_of_page("Outliers", result)
st.page_link("pages/noise.py", label="Next: noise", icon=":material/arrow_forward:")
