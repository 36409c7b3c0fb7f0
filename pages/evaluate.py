"""Evaluate: what the scales are worth on text that neither search nor decision has read."""

from dataclasses import replace

import streamlit as st

from pages import jobs
from pages.forms.evaluation import evaluation_form
from pages.state import session
from pages.state.widget_state import chosen, delivered
from pages.views import glossary
from pages.views.continuations import continuations
from pages.views.evaluation import show_figures, show_finding
from pages.views.job_progress import result_or_progress, running, start_button
from pages.views.render import findings_first
from pages.views.require import require_model
from pages.views.status_bar import status_bar
from qroar_core.evaluation.run import rotated

glossary.title("Evaluate")
loaded, setting = require_model()
status_bar(loaded, setting)

longest = max(setting.search.length or 0, *setting.evaluation.lengths)
spec = evaluation_form(setting.evaluation, longest, rotated(setting.quant) is not None)
if spec != setting.evaluation:
    session.choose(replace(session.choice(), evaluation=spec), chosen("evaluation", spec))
    setting = replace(setting, evaluation=spec)

outcome = jobs.search.marked(loaded, setting)
if outcome is None:
    st.info("No scales are tuned under this setup yet: this compares the reference with the quantized model only.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")

key = start_button("Evaluate", jobs.evaluate, loaded, setting, outcome)
if setting.evaluation.rotation_scales:
    result_or_progress(jobs.search_rotated.key(loaded, setting))
result = result_or_progress(key)
if result is not None:
    show_finding(result)
elif not running(key):
    st.info("Not run for this setup yet. **Evaluate** reads held-out text under every condition.")
with findings_first():
    if result is not None:
        show_figures(result, setting, outcome.report if outcome is not None else None)
    continuations(loaded, setting, outcome)
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
