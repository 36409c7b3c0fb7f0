"""Q-ROAR in the browser: `streamlit run app.py`. Pages in the order of the work."""

import streamlit as st

from pages.parts import session
from pages.parts.queue import queue

st.set_page_config(page_title="Q-ROAR", page_icon=":material/graphic_eq:", layout="wide")
PAGES = {
    "": [
        st.Page("pages/start.py", title="Start", icon=":material/upload:", default=True),
        st.Page("pages/learn.py", title="Learn", icon=":material/school:"),
    ],
    "See": [
        st.Page("pages/bands.py", title="Bands", icon=":material/table_rows:"),
        st.Page("pages/pressure.py", title="Pressure", icon=":material/speed:"),
        st.Page("pages/tails.py", title="Tails", icon=":material/show_chart:"),
        st.Page("pages/outliers.py", title="Outliers", icon=":material/scatter_plot:"),
        st.Page("pages/noise.py", title="Noise", icon=":material/graphic_eq:"),
    ],
    "Repair": [
        st.Page("pages/tune.py", title="Tune", icon=":material/tune:"),
        st.Page("pages/evaluate.py", title="Evaluate", icon=":material/balance:"),
        st.Page("pages/rivals.py", title="Rivals", icon=":material/leaderboard:"),
        st.Page("pages/retrieval.py", title="Retrieval", icon=":material/key:"),
        st.Page("pages/evidence.py", title="Evidence", icon=":material/fact_check:"),
        st.Page("pages/export.py", title="Export", icon=":material/download:"),
        st.Page("pages/runs.py", title="Runs", icon=":material/history:"),
    ],
}
session.enter()  # before the navigation: what is in the address line by then goes into one history entry with the page
page = st.navigation(PAGES, expanded=True)  # else the queue below folds the last pages away
queue()
page.run()
