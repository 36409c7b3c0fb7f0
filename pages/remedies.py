"""Remedies: the ones in use, beside band scales and with band scales on top, compared in one run."""

import streamlit as st

from pages import jobs
from pages.forms.comparison import comparison_form, conditions
from pages.state.widget_state import delivered
from pages.views import glossary
from pages.views.comparison import show_comparison
from pages.views.job_progress import result_or_progress, running, start_button
from pages.views.require import require_model
from pages.views.status_bar import status_bar
from qroar_core.number_of import number_of

glossary.title("Remedies")
loaded, setting = require_model()
status_bar(loaded, setting)
st.markdown(
    "Band scales are not the only remedy. Every remedy that applies to this quantizer is measured on the same held-out "
    "windows, alone and together with band scales that are searched for it; those with scales of their own together "
    "with a rotation at run time."
)
if setting.quant.is_none:
    st.info("Nothing is quantized, so there is nothing to repair. Choose a quantizer on the Start page.")
    st.page_link("pages/start.py", label="Go to Start", icon=":material/upload:")
    st.stop()
spec = comparison_form(loaded, setting)
key = start_button("Run the comparison", jobs.compare, loaded, setting, spec)
measured, searched = conditions(loaded, setting, spec)
st.caption(
    f"{number_of(measured, 'condition')} on {number_of(spec.windows, 'window')} of {setting.search.length:,} tokens "
    f"each; {number_of(searched, 'search', 'searches')} for scales. A remedy that is not wanted "
    "can be taken off the list."
)
result = result_or_progress(key)
if result is not None:
    evaluation = jobs.evaluate.result(loaded, setting, jobs.search.result(loaded, setting))
    show_comparison(result, evaluation, setting.rope.tie)
elif not running(key):
    st.info("Not run for this setup yet. **Run the comparison** prepares, searches and evaluates each remedy.")
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
