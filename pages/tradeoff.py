"""Trade-off: what each format of the cache loses against the memory it takes, from a sweep or a folder of runs."""

import streamlit as st

from pages.forms.open_run import to_opened
from pages.forms.tradeoff import open_sweep
from pages.state import session
from pages.state.widget_state import delivered
from pages.views import glossary
from pages.views.require import require_setting
from pages.views.status_bar import status_bar
from pages.views.tradeoff import show_tradeoff

to_opened()
glossary.title("Trade-off")
loaded = session.model()
if loaded is not None:
    status_bar(loaded, require_setting(loaded))
st.markdown(
    "Which cache format, with which remedy, for how much memory? A sweep measures many on the same held-out windows; "
    "here they stand beside each other."
)
found = open_sweep()
if found is not None:
    show_tradeoff(found)
delivered()
st.page_link("pages/sweep.py", label="Write the file of a sweep, and start it", icon=":material/grid_view:")
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
