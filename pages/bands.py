"""Bands: one table with what every diagnostic says of each frequency band, to sort and to download."""

import streamlit as st

from pages.parts import band_columns, need, predicting
from pages.parts.nulls import nulls
from pages.parts.show import download, picture
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.escape import literal

st.title("Bands")
loaded, setting, result = need.diagnosis()
predicted = predicting.kept(loaded, setting)
with st.container(border=True):
    st.markdown("#### What does every diagnostic say of each band?")
    band_columns.table(result, predicted)
    download(bands.table(result, predicted), "bands")
    asked = "" if predicted else " What a band alone costs in NLL is measured on the Evidence page, and joins here."
    st.caption("A click on a column's name sorts by it, wavelengths by their shorter end; its question mark says what "
               "it is. Wavelengths are in tokens. Columns of which nothing is known are left out here, not in the CSV."
               f"{asked} {literal(bands.sample(result))}")  # fmt: skip
picture(bands.alone(result, predicted), "bands-alone", table=False)
nulls(result)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
