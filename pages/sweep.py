"""Sweep: many models, interpolations, quantizers and remedies in one file, started here or by the command line."""

import streamlit as st

from pages.forms.sweep import sweep_form
from pages.state import session
from pages.state.widget_state import delivered
from pages.views import glossary
from pages.views.require import require_setting
from pages.views.status_bar import status_bar
from pages.views.sweep import show_sweep

glossary.title("Sweep")
loaded, setting = session.model(), None
if loaded is not None:
    setting = require_setting(loaded)
    status_bar(loaded, setting)
st.markdown(
    "A sweep measures every combination of these lists on the same held-out windows, each once. The lists begin with "
    "the model and the setup in view."
)
asked = sweep_form(loaded, setting)
show_sweep(asked, setting)
delivered()
st.page_link("pages/tradeoff.py", label="Next: loss against memory", icon=":material/arrow_forward:")
