"""Bands: one table with what every diagnostic says of each frequency band, to sort and to download."""

import streamlit as st

from pages.views import band_table, glossary, prediction, require
from pages.views.render import download, picture
from pages.views.rest_of_page import rest_of_page
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.escape import literal

glossary.title("Bands")
loaded, setting, result = require.diagnosis()
predicted = prediction.kept(loaded, setting)
with st.container(border=True):
    st.subheader("What does every diagnostic say of each band?")
    band_table.table(result, predicted)
    download(bands.table(result, predicted), "bands")
    asked = "" if predicted else " The Evidence page measures what rounding a band alone costs; it is then shown here."
    st.caption(
        "Click a column's name to sort by it, wavelengths (in tokens) by their shorter end; its question mark "
        "explains it. Columns without values are left out here, not in the CSV."
        f"{asked} {literal(bands.sample(result))}"
    )
picture(bands.alone(result, predicted), "bands-alone", table=False)
rest_of_page("Bands", result, every_null=True)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
