"""Pressure: which bands the interpolation moves, and at which distances they mistake far for near."""

import streamlit as st

from pages.parts import need
from pages.parts.show import picture
from qroar_core.figures import aliasing, pressure

st.title("Pressure")
_, _, result = need.diagnosis()
picture(pressure.by_band(result), "pressure-by-band")
picture(pressure.by_pair(result), "pressure-by-pair")
picture(aliasing.unseen(result), "unseen-phases")
picture(aliasing.kernel(result), "band-kernel")
st.page_link("pages/tails.py", label="Next: tails", icon=":material/arrow_forward:")
