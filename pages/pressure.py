"""Pressure: which frequencies each interpolation moves, how much that matters here, and which distances alias."""

import streamlit as st

from pages.forms.layer_group import layer_group, of_group
from pages.forms.pressure import compared
from pages.views import glossary, require
from pages.views.render import findings_first, folded, heading, picture
from pages.views.require import require_model
from pages.views.rest_of_page import rest_of_page
from pages.views.status_bar import status_bar
from qroar_core.diagnostics.aliasing import figure as aliasing
from qroar_core.diagnostics.pressure import figure as pressure
from qroar_core.diagnostics.pressure import figure_methods as pressure_methods

glossary.title("Pressure")
loaded, setting = require_model()
status_bar(loaded, setting)

group = layer_group(loaded)
with findings_first():
    found = compared(loaded, setting, group)
    if found is not None:
        picture(pressure_methods.by_band(found), "methods-by-band")
        with folded("The same for every RoPE pair") as opened:
            if opened:
                picture(pressure_methods.by_pair(found), "methods-by-pair")

    words = f"The same, measured with this model's own q and k at {setting.search.length:,} tokens"
    heading(words, "measured", divider=True)
    result = of_group(require.diagnosis_below(loaded, setting)[2], loaded, group)
    picture(pressure.by_band(result), "pressure-by-band")
    picture(aliasing.unseen(result), "unseen-phases")
    with folded("Every RoPE pair, and which distances each band cannot tell apart") as opened:
        if opened:
            picture(pressure.by_pair(result), "pressure-by-pair")
            picture(aliasing.kernel(result), "band-kernel")
    rest_of_page("Pressure", result)
st.page_link("pages/tails.py", label="Next: tails", icon=":material/arrow_forward:")
