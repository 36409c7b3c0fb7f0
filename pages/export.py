"""Export: the scales, the whole checkpoint with the scales and the interpolation inside, and the report."""

import streamlit as st

from pages.parts import exported, recipes, session
from pages.parts.elsewhere import marked
from pages.parts.strip import strip
from pages.parts.work import evaluating, searching
from qroar_core.escape import literal

st.title("Export")
loaded, setting = session.require_model()
strip(loaded, setting)

outcome = marked(searching.key(loaded, setting))
proof = marked(evaluating.key(loaded, setting, outcome)) if outcome else None
offered = recipes.offered(loaded, setting, outcome, proof)
picked = st.selectbox("Scales to export", list(offered), key="export scales")
scales, why = offered[picked]
st.caption(literal(why))
if outcome is None:
    st.info("No scales are tuned under this setting yet. You can still export the interpolation alone.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")
exported.scales_file(loaded, setting, scales, outcome)
exported.report(loaded, setting, outcome, proof)
exported.checkpoint(loaded, setting, scales)
