"""Tune: bounds, a search to watch, scales by hand beside it, and the chosen ones put into the loaded weights."""

from dataclasses import replace

import streamlit as st

from pages import jobs
from pages.forms.open_run import to_opened
from pages.forms.search import search_form
from pages.state import session
from pages.state.widget_state import chosen, delivered
from pages.views import glossary
from pages.views.candidates_panel import candidates_panel
from pages.views.job_progress import start_once
from pages.views.render import findings_first, folded, heading, numbers, picture
from pages.views.require import require_model
from pages.views.runs import show_runs
from pages.views.search import cancelled_search, found_by_search
from pages.views.status_bar import status_bar
from pages.views.tie_choice import tie_choice
from qroar_core.escape import literal
from qroar_core.scale_search import figure as search_trace
from qroar_core.transforms.refusals import why_not

to_opened()
glossary.title("Tune")
loaded, setting = require_model()
above = st.container()  # drawn after the form that it follows: a rerun in between would lose a click on a button below
spec = search_form(setting.search, why_not(loaded.geometry, setting.rope, setting.quant))
if spec != setting.search:
    session.choose(replace(session.choice(), search=spec), chosen("search", spec))
    setting = replace(setting, search=spec)
with above:
    said = status_bar(loaded, setting)
    if said.acts != "yes":
        st.warning(
            f"{literal(said.reason)} A search would only follow noise; change the quantizer, or go on to see it."
        )
tie_choice(loaded, setting)
outcome = cancelled_search(loaded, setting)
if outcome is None:
    start_once("Start the search", jobs.search, loaded, setting, primary=said.acts == "yes")
    outcome = found_by_search(loaded, setting)
with findings_first():
    candidates_panel(loaded, setting, outcome)
    if outcome is not None:
        with folded("The search, candidate by candidate and in numbers") as opened:
            if opened:
                if outcome.report.history:
                    picture(search_trace.candidates(outcome.report.history, outcome.report.objective), "trace")
                numbers(search_trace.summary(outcome.report), "search")
        st.page_link("pages/evaluate.py", label="Next: evaluate", icon=":material/arrow_forward:")
    heading("Runs to compare and restore", "runs")
    with folded("Every run on disk") as opened:
        if opened:
            show_runs(loaded, setting)
delivered()
