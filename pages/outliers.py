"""Outliers: which channels stick out, at which positions, and what they cost the quantizer."""

import streamlit as st

from pages.parts import need
from pages.parts.show import picture
from pages.parts.words import TENSOR_WORDS
from qroar_core.figures import dilation, outliers

st.title("Outliers")
_, _, result = need.diagnosis()
one, two, three = st.columns(3)
layer = one.selectbox("Layer", range(len(result.dilation.absmax)), key="range layer")
names = [name for name in TENSOR_WORDS if name in result.outliers.maps]
which = three.selectbox("Outliers of", names, format_func=TENSOR_WORDS.get, key="outliers of")
head = two.selectbox("KV head", range(len(result.outliers.maps[which][layer])), key="range head")
picture(outliers.channel_map(result, which, layer, head), "outlier-map")
picture(dilation.by_position(result, layer), "range-by-position")
if which in result.outliers.jaccard:
    picture(outliers.shift(result, which), "outlier-shift")
for bits in result.outliers.error_share:
    picture(outliers.error_share(result, bits), f"outlier-error-{bits}")
st.page_link("pages/noise.py", label="Next: noise", icon=":material/arrow_forward:")
