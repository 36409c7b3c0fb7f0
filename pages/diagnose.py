"""Diagnose: what interpolation and quantization do to each frequency band of this model."""

from dataclasses import replace

import streamlit as st

from pages.parts import forms, session, work
from pages.parts.diagnosis import show
from pages.parts.strip import strip

st.title("Diagnose")
loaded, setting = session.require_model()
strip(loaded, setting)

spec = forms.diagnosis_form(setting.diagnosis)
if spec != setting.diagnosis:
    session.choose(replace(session.choice(), diagnosis=spec))
    setting = replace(setting, diagnosis=spec)

key = work.key_of("diagnose", loaded, setting)
if st.button("Diagnose", type="primary", disabled=work.running(key), icon=":material/play_arrow:"):
    work.start_diagnosis(loaded, setting)
    st.rerun()
result = work.watch(key)
if result is None:
    if not work.running(key):
        st.info("Nothing measured under this setting yet. **Diagnose** reads one long context and its short windows.")
    st.stop()

show(result)
st.page_link("pages/tune.py", label="Next: tune", icon=":material/arrow_forward:")
