"""Evidence: the controls beside the tuned scales, the papers' claims by setting, and whether diagnostics predict."""

import streamlit as st

from pages.parts import predicting, session
from pages.parts.controlled import controls
from pages.parts.elsewhere import marked
from pages.parts.follow import delivered
from pages.parts.replicated import replication
from pages.parts.strip import strip
from pages.parts.work import searching

st.title("Evidence")
loaded, setting = session.require_model()
strip(loaded, setting)

controls(loaded, setting, marked(searching.key(loaded, setting)))
st.divider()
replication(loaded, setting)
st.divider()
predicting.draw(loaded, setting)
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
