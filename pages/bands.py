"""Bands: one table with what every diagnostic says of each frequency band, to sort and to download."""

import streamlit as st

from pages.parts import need, predicting
from pages.parts.nulls import nulls
from pages.parts.show import numbers, picture
from qroar_core.diagnostics.bands import figure as bands
from qroar_core.escape import literal

DIGITS = "%.4g"  # shown; the CSV holds all

st.title("Bands")
loaded, setting, result = need.diagnosis()
predicted = predicting.kept(loaded, setting)
frame, titles, helps = bands.table(result, predicted), bands.titles(), bands.helps()
known = [name for name in frame if frame[name].notna().any()]
shown = dict.fromkeys(frame) | {name: st.column_config.Column(titles[name], help=helps[name]) for name in known}
for name in frame[known].select_dtypes("float"):
    shown[name] = st.column_config.NumberColumn(titles[name], help=helps[name], format=DIGITS)
with st.container(border=True):
    st.markdown("#### What does every diagnostic say of each band?")
    numbers(frame, "bands", shown)
    asked = "" if predicted else " What a band alone costs in NLL is measured on the Evidence page, and joins here."
    st.caption("A click on a column's name sorts by it, its question mark says what it is; columns of which nothing is "
               f"known are left out here, not in the CSV.{asked} {literal(bands.sample(result))}")  # fmt: skip
picture(bands.alone(result, predicted), "bands-alone", table=False)
nulls(result)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
