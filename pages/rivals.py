"""Rivals: what people use already, beside band scales and with band scales on top, in one run."""

import streamlit as st

from pages.parts import session
from pages.parts.follow import delivered
from pages.parts.league_form import conditions, league_form
from pages.parts.ranked import ranked
from pages.parts.strip import strip
from pages.parts.watch import running, watch
from pages.parts.work import ranking

st.title("Compare remedies")
loaded, setting = session.require_model()
strip(loaded, setting)
st.markdown(
    "Band scales are not the only remedy. Every remedy that applies to this quantizer is measured on the same held-out "
    "windows, alone and together with band scales that are searched for it."
)
if setting.quant.is_none:
    st.info("Nothing is quantized, so there is nothing to repair. Choose a quantizer on the Start page.")
    st.page_link("pages/start.py", label="Go to Start", icon=":material/upload:")
    st.stop()
spec = league_form(setting)
key = ranking.key(loaded, setting, spec)
if st.button("Run the comparison", type="primary", disabled=running(key), icon=":material/play_arrow:"):
    ranking.start(loaded, setting, spec)
    st.rerun()
measured, searched = conditions(loaded, setting, spec)
st.caption(f"{measured:d} conditions on {spec.windows:d} windows of {setting.search.length:,} tokens each; "
           f"{searched:d} searches for band scales.")  # fmt: skip
result = watch(key)
if result is not None:
    ranked(result)
elif not running(key):
    st.info("Not run for this setting yet. **Run the comparison** prepares, searches and evaluates each remedy.")
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
