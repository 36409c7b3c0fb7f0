"""Bands: one table with what every diagnostic says of each frequency band, to sort and to download."""

import streamlit as st

from pages.parts import need, predicting
from pages.parts.nulls import nulls
from pages.parts.show import numbers, picture
from qroar_core.diagnostics.bands import figure as bands

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
    asked = "" if predicted else " The Evidence page measures what rounding a band alone costs; it is then shown here."
    st.caption("Click a column's name to sort by it; its question mark explains it. Columns without values are left "
               "out "
               f"here, not in the CSV.{asked} {bands.sample(result)}")  # fmt: skip
picture(bands.alone(result, predicted), "bands-alone", table=False)
nulls(result)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
