"""Export: the scales, the whole checkpoint with the scales and the interpolation inside, and the report."""

import streamlit as st

from pages import jobs
from pages.forms.export import export_menu
from pages.state.widget_state import delivered
from pages.views import export, export_choice, glossary
from pages.views.render import findings_first
from pages.views.require import require_model
from pages.views.status_bar import status_bar
from qroar_core.escape import literal

glossary.title("Export")
loaded, setting = require_model()
status_bar(loaded, setting)

outcome = jobs.search.marked(loaded, setting)
evaluation = jobs.evaluate.marked(loaded, setting, outcome) if outcome else None
offered = export_choice.offered(loaded, setting, outcome, evaluation)
picked = export_menu("Scales to export", list(offered), "scales")
scales, why = offered[picked]
st.caption(literal(why))
if outcome is None:
    st.info("No scales are tuned under this setup yet. You can still export the interpolation alone.")
    st.page_link("pages/tune.py", label="Tune first", icon=":material/arrow_back:")
with findings_first():
    export.scales_file(loaded, setting, scales, outcome)
    export.report(loaded, setting, outcome, evaluation)
    export.checkpoint(loaded, setting, scales)
delivered()
