"""Evaluate: what the scales are worth on text that the search never saw."""

from dataclasses import replace

import streamlit as st

from pages.parts import forms, session
from pages.parts.show import picture
from pages.parts.strip import strip
from pages.parts.watch import running, watch
from pages.parts.work import evaluating, searching
from qroar_core.figures import evaluation

st.title("Evaluate")
loaded, setting = session.require_model()
strip(loaded, setting)

spec = forms.evaluation_form(setting.evaluation, max(setting.search.length or 0, *setting.evaluation.lengths))
if spec != setting.evaluation:
    session.choose(replace(session.choice(), evaluation=spec))
    setting = replace(setting, evaluation=spec)

outcome = searching.result(loaded, setting)
if outcome is None:
    st.info("No scales are tuned under this setting yet: this compares the reference with the quantized model only.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")

key = evaluating.key(loaded, setting, outcome)
if st.button("Evaluate", type="primary", disabled=running(key), icon=":material/play_arrow:"):
    evaluating.start(loaded, setting, outcome)
    st.rerun()
result = watch(key)
if result is None:
    if not running(key):
        st.info("Nothing evaluated under this setting yet. **Evaluate** reads held-out text under every condition.")
    st.stop()

(st.success if result.gain and result.gain.significant else st.warning)(
    f"**{result.sentence[:1].upper()}{result.sentence[1:]}**"
)
boxes = st.columns(4)
for box, (name, value, unit) in zip(boxes, evaluation.headline(result), strict=False):
    box.metric(name, value, help=unit, border=True)
picture(evaluation.perplexity_by_length(result), "ppl")
picture(evaluation.cost_by_length(result), "cost")
picture(evaluation.gain_and_attribution(result), "gain")
picture(evaluation.by_position(result), "position")
st.caption(f"Held-out text: {result.text}")
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
