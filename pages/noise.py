"""Noise: what quantization does to attention logits, by position, distance, layer and band."""

import streamlit as st

from pages.parts import need
from pages.parts.show import picture
from qroar_core.figures import anisotropy, noise

st.title("Noise")
_, _, result = need.diagnosis()
if result.logit_noise is None:
    st.info("Nothing is quantized, so there is no noise. Choose a quantizer on the Start page.")
picture(noise.by_position(result), "noise-by-position")
picture(noise.by_layer_and_band(result), "noise-by-band")
picture(noise.by_distance(result), "noise-by-distance")
picture(noise.pair_error(result), "pair-error")
picture(anisotropy.by_angle(result), "anisotropy")
picture(noise.hidden_states(result), "hidden-states")
st.page_link("pages/tune.py", label="Next: tune", icon=":material/arrow_forward:")
