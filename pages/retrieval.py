"""Retrieval: does each model still find what is hidden in its context, however deep and however long?"""

import streamlit as st

from pages.parts import session
from pages.parts.elsewhere import marked
from pages.parts.follow import delivered
from pages.parts.retrieval_form import prompt_count, retrieval_form
from pages.parts.retrieved import retrieved
from pages.parts.strip import strip
from pages.parts.watch import running, watch
from pages.parts.work import retrieving, searching

st.title("Retrieval")
loaded, setting = session.require_model()
strip(loaded, setting)
st.markdown("A number is hidden in held-out text and asked for at the end, under every condition alike.")
spec = retrieval_form(loaded, setting)

outcome = marked(searching.key(loaded, setting))
if outcome is None:
    st.info("No scales are tuned under this setting yet: this compares the reference with the quantized model only.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")

key = retrieving.key(loaded, setting, outcome, spec)
conditions = 1 if setting.quant.is_none else 2 if outcome is None else 3
if st.button("Test retrieval", type="primary", disabled=running(key), icon=":material/play_arrow:"):
    retrieving.start(loaded, setting, outcome, spec)
    st.rerun()
longest = max(spec.lengths)
st.caption(f"{prompt_count(spec):,} prompts under {conditions:d} conditions, each of up to {longest:,} tokens.")
result = watch(key)
if result is not None:
    retrieved(result, setting)
elif not running(key):
    st.info("Not run for this setting yet. **Test retrieval** hides the numbers and asks every model for them.")
delivered()
st.page_link("pages/export.py", label="Next: export", icon=":material/arrow_forward:")
