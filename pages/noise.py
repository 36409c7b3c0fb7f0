"""Noise: what quantization does to attention logits, by position, distance, layer and band, and what scales mend."""

import streamlit as st

from pages.forms.layer_group import errors_of
from pages.views import glossary, require
from pages.views.render import findings_first, folded, picture
from pages.views.rest_of_page import rest_of_page
from qroar_core.diagnostics.anisotropy import figure as anisotropy
from qroar_core.diagnostics.logit_noise import figure as noise
from qroar_core.diagnostics.logit_noise import figure_scores, figure_split
from qroar_core.diagnostics.pair_error import figure as pair_error
from qroar_core.diagnostics.rounding import figure as rounding
from qroar_core.diagnostics.similarity import figure as similarity

glossary.title("Noise")
loaded, setting, result = require.diagnosis()
tuned = None
if result.logit_noise is None:
    st.info("Nothing is quantized, so there is no noise. Choose a quantizer on the Start page.")
else:
    tuned = require.tuned_diagnosis(loaded, setting)
picture(noise.by_group(result), "noise-by-group")
group = errors_of(result)
if group is not None:
    result, tuned = result.of_group(group), None if tuned is None else tuned.of_group(group)
with findings_first():
    picture(noise.by_position(result, tuned), "noise-by-position")
    picture(noise.by_layer_and_band(result, tuned), "noise-by-band")
    picture(pair_error.amplitude_and_phase(result, tuned), "pair-error")
    picture(similarity.accumulation(result), "error-accumulation")
    with folded("By distance, by layer, in attention weights and hidden states, and by angle") as opened:
        if opened:
            picture(noise.by_distance(result, tuned), "noise-by-distance")
            picture(figure_scores.scores(result), "noise-scores")
            shown = noise.models(result, tuned)
            if shown:
                with st.container(horizontal=True):
                    kinds = ["band", "layer"]
                    rows = st.segmented_control("Split by", kinds, default="band", key="split rows", required=True)
                    name = st.segmented_control(
                        "Model", list(shown), default="quantized", key="split model", required=True
                    )
                split = figure_split.split(tuned if tuned is not None and name == "tuned" else result, rows, name)
                picture(split, "noise-split")
            picture(anisotropy.by_angle(result), "anisotropy")
            picture(rounding.lengths(result), "rounded-lengths")
            picture(similarity.hidden_states(result), "hidden-states")
            picture(similarity.by_position(result), "hidden-by-position")
    rest_of_page("Noise", result)
st.page_link("pages/tune.py", label="Next: tune", icon=":material/arrow_forward:")
