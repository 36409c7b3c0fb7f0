"""Tails: do q and k reach further at long context than at short?"""

import streamlit as st

from pages.parts import need
from pages.parts.show import picture
from pages.parts.words import TENSOR_WORDS
from qroar_core.figures import tails

st.title("Tails")
_, _, result = need.diagnosis()
names = [name for name in TENSOR_WORDS if name in result.tails]
tensor, side = st.selectbox("Tails of", names, format_func=TENSOR_WORDS.get, key="tails of").split("/")
picture(tails.by_layer_and_band(result, tensor, side), f"tails-{tensor}-{side}")
st.page_link("pages/outliers.py", label="Next: outliers", icon=":material/arrow_forward:")
