"""Outliers: which channels stick out, at which positions, and what they cost the quantizer."""

import streamlit as st

from pages.parts import need, outlier_rule, outlier_weights, pick
from pages.parts.nulls import nulls
from pages.parts.show import picture
from pages.parts.work import diagnosing
from qroar_core.diagnostics.outliers import figure as outliers
from qroar_core.diagnostics.outliers import figure_rules as rules
from qroar_core.diagnostics.tails import figure as tails

MENUS = ("outlier tensor", "outlier layer", "outlier head")
FIRST = "k/post"  # what a K cache quantizes

st.title("Outliers")
loaded, setting, result = need.diagnosis()
of = diagnosing.key(loaded, setting)
loudest = outliers.loudest_layer(result, FIRST)
pick.keep("outlier map", of, dict(zip(MENUS, (FIRST, loudest, outliers.loudest_head(result, FIRST, loudest)))))

names = [name for name in tails.NAMES if name in result.outliers.maps]
count, per_page = len(result.outliers.maps[FIRST]), outliers.PANELS
with st.container(horizontal=True, vertical_alignment="bottom"):
    which = st.segmented_control("Tensor", names, key="outlier tensor", format_func=tails.NAMES.get, required=True)
    page = 0
    if outliers.pages(result) > 1:
        here = st.session_state["outlier layer"] // per_page
        page = st.selectbox("Layers shown", range(outliers.pages(result)), here,
                            lambda p: "–".join(str(result.layer_number(i)) for i in (
                                p * per_page, min(count, (p + 1) * per_page) - 1)), width=160)  # fmt: skip


def panel(data: list) -> dict:
    """A clicked panel as menu values, with the KV head that it shows."""
    return {"outlier layer": data[0], "outlier head": outliers.loudest_head(result, which, data[0])}


picture(outliers.layers(result, which, page, st.session_state["outlier layer"]), "outlier-layers",
        on_select=pick.on_click("outlier-layers", panel), selection_mode="points")  # fmt: skip
with st.container(horizontal=True, vertical_alignment="bottom"):
    layer = st.selectbox("Layer", range(count), key="outlier layer", width=120,
                         format_func=lambda i: str(result.layer_number(i)))  # fmt: skip
    head = st.selectbox("KV head", range(result.n_kv_heads), key="outlier head", width=120)
pick.remember("outlier map", of, *MENUS)
picture(outliers.channel_map(result, which, layer, head), "outlier-map")
by_rule = outlier_rule.by_rule(result, of)
picture(rules.counts(by_rule, which), "outlier-counts")
picture(rules.shift(by_rule, which), "outlier-shift")
picture(rules.error_share(by_rule), "outlier-error")
picture(rules.error_by_channel(result), "outlier-channels")
outlier_weights.weight_outliers(by_rule, of)
nulls(result, "outliers")
st.page_link("pages/noise.py", label="Next: noise", icon=":material/arrow_forward:")
