"""Retrieval: does each model still find what is hidden in its context, however deep and however long?"""

import streamlit as st

from pages import jobs
from pages.forms.retrieval import prompt_count, retrieval_form
from pages.state.widget_state import delivered
from pages.views import glossary
from pages.views.job_progress import result_or_progress, running, start_button
from pages.views.require import require_model
from pages.views.retrieval import show_retrieval
from pages.views.status_bar import status_bar
from qroar_core.number_of import number_of

glossary.title("Retrieval")
loaded, setting = require_model()
status_bar(loaded, setting)
st.markdown("A number is hidden in held-out text and asked for at the end, under every condition alike.")
spec = retrieval_form(loaded, setting)

outcome = jobs.search.marked(loaded, setting)
if outcome is None:
    st.info("No scales are tuned under this setup yet: this compares the reference with the quantized model only.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")

conditions = 1 if setting.quant.is_none else 2 if outcome is None else 3
key = start_button("Test retrieval", jobs.retrieve, loaded, setting, outcome, spec)
longest = max(spec.lengths)
prompts = number_of(prompt_count(spec), "prompt")
st.caption(f"{prompts} under {number_of(conditions, 'condition')}, each of up to {longest:,} tokens.")
result = result_or_progress(key)
if result is not None:
    show_retrieval(result, setting)
elif not running(key):
    st.info("Not run for this setup yet. **Test retrieval** hides the numbers and asks every model for them.")
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
