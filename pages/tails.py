"""Tails: do q and k reach further at long context than at short, and by how much in one band?"""

import streamlit as st

from pages import jobs
from pages.state import selection
from pages.state.widget_state import one_of
from pages.views import glossary, require
from pages.views.render import findings_first, folded, picture
from pages.views.rest_of_page import rest_of_page
from qroar_core.diagnostics.dilation import figure as dilation
from qroar_core.diagnostics.tail_inflation import figure as tails
from qroar_core.diagnostics.tail_inflation.result import TENSORS

MENUS = ("tail tensor", "tail layer", "tail head", "tail band")

glossary.title("Tails")
loaded, setting, result = require.diagnosis()
of = jobs.diagnose.key(loaded, setting)
selection.keep("tail cell", of, dict(zip(MENUS, tails.worst_cell(result))))


def cell(data: list) -> dict:
    """A clicked cell as menu values, with the KV head that the map shows there."""
    which, layer, band = data
    return dict(zip(MENUS, (which, layer, tails.loudest_head(result, which, layer, band), band)))


picked = tuple(st.session_state[menu] for menu in MENUS)
with findings_first():
    picture(
        tails.overview(result, picked), "tails", on_select=selection.on_click("tails", cell), selection_mode="points"
    )
    names = [name for name in TENSORS if name in result.tails]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        one_of("Tensor", names, "tail tensor", format_func=tails.label)
        st.selectbox(
            "Layer",
            range(len(result.dilation.absmax)),
            key="tail layer",
            width=90,
            format_func=lambda i: str(result.layer_number(i)),
        )
        st.selectbox("KV head", range(result.n_kv_heads), key="tail head", width=90)
        st.selectbox("Band", range(len(result.bands)), key="tail band", width=90)
    selection.remember("tail cell", of, *MENUS)
    picture(tails.survival(result, picked), "survival")
    with folded("How large keys get by position, in the layer and in the band") as opened:
        if opened:
            picture(dilation.by_position(result, picked[1]), "range-by-position")
            picture(dilation.of_band(result, picked[1], picked[3]), "range-of-band")
    rest_of_page("Tails", result)
st.page_link("pages/outliers.py", label="Next: outliers", icon=":material/arrow_forward:")
