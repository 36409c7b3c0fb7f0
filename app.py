"""Q-ROAR in the browser: `streamlit run app.py`. Pages in the order of the work.

The server imports this file for its `server`, Streamlit's own application behind `Guard`; Streamlit then runs the file
as a script for every visitor.
"""

from pathlib import Path

import streamlit as st

ICON = Path(__file__).parent / "assets" / "icon.svg"  # of this machine: a `:material/` one comes from a font server


def pages() -> dict[str, list]:
    """Every page under its heading in the menu."""
    return {
        "": [
            st.Page("pages/start.py", title="Start", icon=":material/upload:", default=True),
            st.Page("pages/overview.py", title="Overview", icon=":material/dashboard:"),
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
            st.Page("pages/remedies.py", title="Remedies", icon=":material/leaderboard:"),
            st.Page("pages/sweep.py", title="Sweep", icon=":material/grid_view:"),
            st.Page("pages/tradeoff.py", title="Trade-off", icon=":material/query_stats:"),
            st.Page("pages/retrieval.py", title="Retrieval", icon=":material/key:"),
            st.Page("pages/evidence.py", title="Evidence", icon=":material/fact_check:"),
            st.Page("pages/export.py", title="Export", icon=":material/download:"),
            st.Page("pages/runs.py", title="Runs", icon=":material/history:"),
        ],
    }


if __name__ == "__main__":
    st.set_page_config(page_title="Q-ROAR", page_icon=str(ICON), layout="wide", initial_sidebar_state=200)
    from pages.server import preload
    from pages.state.headings import HEADINGS

    if preload.is_missing():  # a new server: its first heading does not wait for PyTorch and transformers
        st.session_state.setdefault(preload.FIRST_ADDRESS, st.query_params.to_dict())
        page = st.navigation(pages(), expanded=True)
        st.title(HEADINGS[page.title])
        with st.spinner("Importing PyTorch and transformers"):
            preload.import_once()
        st.rerun()

    from pages.state import session
    from pages.state.main_area import draw_into_the_page
    from pages.views.focus import keep_focus
    from pages.views.job_queue import job_queue
    from pages.views.theme import apply_theme

    draw_into_the_page()
    apply_theme()
    keep_focus()
    session.enter()  # before the navigation: what is in the address by then goes into one history entry with the page
    page = st.navigation(pages(), expanded=True)  # else the queue below folds the last pages away
    job_queue()
    page.run()
else:
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    from pages.server import preload
    from pages.server.guard import Guard
    from pages.server.typed_before_leaving import keep_order

    keep_order()
    preload.serve()
    server = App(__file__, middleware=[Middleware(Guard)], lifespan=preload.from_the_start)
