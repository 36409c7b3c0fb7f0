"""Tune: bounds, a search to watch, scales by hand beside it, and the chosen ones put into the loaded weights."""

from dataclasses import replace

import streamlit as st

from pages.parts import forms, session
from pages.parts.follow import delivered
from pages.parts.history import history
from pages.parts.show import numbers, picture
from pages.parts.strip import strip
from pages.parts.tune.desk import desk
from pages.parts.tune.searched import searched
from qroar_core.escape import literal
from qroar_core.figures import search_trace

st.title("Tune")
loaded, setting = session.require_model()
above = st.container()  # drawn after the form that it follows: a rerun in between would lose a click on a button below
spec = forms.search_form(setting.search, norms=loaded.geometry.scaled_gain)
if spec != setting.search:
    session.choose(replace(session.choice(), search=spec))
    setting = replace(setting, search=spec)
with above:
    said = strip(loaded, setting)
    if said.acts != "yes":
        st.warning(f"{literal(said.reason)} A search would only follow noise; change the quantizer, or go on to see "
                   "it.")  # fmt: skip
outcome = searched(loaded, setting, said)
desk(loaded, setting, outcome)

if outcome is not None:
    if outcome.report.history:
        picture(search_trace.candidates(outcome.report.history, outcome.report.objective), "trace")
    with st.expander("The search in numbers"):
        numbers(search_trace.summary(outcome.report), "search")
    st.page_link("pages/evaluate.py", label="Next: evaluate", icon=":material/arrow_forward:")
st.subheader("Runs to compare and restore")
history(loaded, setting)
delivered()
