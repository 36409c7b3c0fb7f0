"""Q-ROAR in the browser: `streamlit run app.py`. One page a stage, in the order of the work."""

import streamlit as st

from pages.parts import session

st.set_page_config(page_title="Q-ROAR", page_icon=":material/graphic_eq:", layout="wide")
PAGES = [
    st.Page("pages/load.py", title="Load", icon=":material/upload:", default=True),
    st.Page("pages/diagnose.py", title="Diagnose", icon=":material/troubleshoot:"),
    st.Page("pages/tune.py", title="Tune", icon=":material/tune:"),
    st.Page("pages/evaluate.py", title="Evaluate", icon=":material/balance:"),
    st.Page("pages/export.py", title="Export", icon=":material/download:"),
]
page = st.navigation(PAGES)
session.choose(session.choice())  # a page change empties the address line: put the choice back
page.run()
