"""Bands: what each band costs when it alone is rounded, then every diagnostic of each band in one table."""

import streamlit as st

from pages.views import band_table, glossary, prediction, require
from pages.views.render import download, findings_first, heading, picture
from pages.views.rest_of_page import rest_of_page
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.escape import literal

glossary.title("Bands")
loaded, setting, result = require.diagnosis()
predicted = prediction.kept(loaded, setting)
with findings_first():
    picture(bands.alone(result, predicted), "bands-alone", table=False)
    with st.container(border=True):
        heading("All diagnostics of each band", "bands-table", "box")
        band_table.table(result, predicted)
        download(bands.table(result, predicted), "bands")
        asked = (
            "" if predicted else " The Evidence page measures what rounding a band alone costs; it is then shown here."
        )
        st.caption(
            "Scroll the table sideways for more columns. Click a column's name to sort by it, wavelengths (in tokens) "
            "by their shorter end; its question mark explains it. Columns without values are left out here, not in "
            f"the CSV.{asked} {literal(bands.sample(result))}"
        )
    rest_of_page("Bands", result, every_null=True)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
