"""Overview: for one setup what is lost, where, what recovers how much and what to serve, on one screen."""

import streamlit as st

from pages.state.widget_state import delivered
from pages.views import glossary, overview
from pages.views.require import require_model
from pages.views.status_bar import status_bar

glossary.title("Overview")
loaded, setting = require_model()
status_bar(loaded, setting)
if setting.quant.is_none:
    st.info("Nothing is quantized, so nothing is lost and there is nothing to repair. Choose a quantizer on Start.")
    st.page_link("pages/start.py", label="Go to Start", icon=":material/upload:")
    st.stop()
found = overview.measured(loaded, setting)
first, second, third = st.columns(3)
with first:
    overview.lost(loaded, setting, found)
with second:
    overview.where("band", loaded, setting, found)
with third:
    overview.where("layer", loaded, setting, found)
first, second, third = st.columns(3)
with first:
    overview.where("position", loaded, setting, found)
with second:
    overview.recovered(loaded, setting, found)
with third:
    overview.served(loaded, setting, found)
delivered()
