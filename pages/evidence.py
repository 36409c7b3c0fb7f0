"""Evidence: controls beside the tuned scales, the papers' claims, whether diagnostics predict, the interpolation."""

import streamlit as st

from pages import jobs
from pages.state.widget_state import delivered
from pages.views import glossary, prediction
from pages.views.controls import controls
from pages.views.render import findings_first
from pages.views.replication import replication
from pages.views.require import require_model
from pages.views.rope_search import rope_search
from pages.views.status_bar import status_bar

glossary.title("Evidence")
loaded, setting = require_model()
status_bar(loaded, setting)

with findings_first():
    controls(loaded, setting, jobs.search.marked(loaded, setting))
    st.divider()
    replication(loaded, setting)
    st.divider()
    prediction.draw(loaded, setting)
    st.divider()
    rope_search(loaded, setting)
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
