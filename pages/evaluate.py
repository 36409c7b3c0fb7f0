"""Evaluate: what the scales are worth on text that neither search nor decision has read."""

from dataclasses import replace

import streamlit as st

from pages.parts import forms, session
from pages.parts.elsewhere import marked
from pages.parts.evaluated import evaluated
from pages.parts.follow import delivered
from pages.parts.side_by_side import side_by_side
from pages.parts.strip import strip
from pages.parts.watch import running, watch
from pages.parts.work import evaluating, rotating, searching
from qroar_core.evaluate import rotated

st.title("Evaluate")
loaded, setting = session.require_model()
strip(loaded, setting)

longest = max(setting.search.length or 0, *setting.evaluation.lengths)
spec = forms.evaluation_form(setting.evaluation, longest, rotated(setting.quant) is not None)
if spec != setting.evaluation:
    session.choose(replace(session.choice(), evaluation=spec))
    setting = replace(setting, evaluation=spec)

outcome = marked(searching.key(loaded, setting))
if outcome is None:
    st.info("No scales are tuned under this setting yet: this compares the reference with the quantized model only.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")

key = evaluating.key(loaded, setting, outcome)
if st.button("Evaluate", type="primary", disabled=running(key), icon=":material/play_arrow:"):
    evaluating.start(loaded, setting, outcome)
    st.rerun()
if setting.evaluation.rotation_scales:
    watch(rotating.key(loaded, setting))
result = watch(key)
if result is not None:
    evaluated(result, setting, outcome.report if outcome is not None else None)
elif not running(key):
    st.info("Not run for this setting yet. **Evaluate** reads held-out text under every condition.")
side_by_side(loaded, setting, outcome)
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
