"""Start: a model in one click, its setting, and whether rescaling can act there."""

from dataclasses import replace

import streamlit as st

from pages.forms import model
from pages.forms.context_limit import room
from pages.forms.quantization import kept_layers_form, quant_form
from pages.forms.setting import band_form, length_form, preset_pills, rope_form
from pages.state import session
from pages.state.choice import bos_of
from pages.state.widget_state import delivered
from pages.views import model_facts
from pages.views.changed_model import changed_files
from pages.views.job_progress import result_or_progress
from pages.views.require import require_setting

now = session.choice()
loaded = session.model()
model.model_title(loaded)
model.first_row(now, loaded is None)  # in one place before and after, so that the keyboard's focus stays on it
model.reload_button(now)
if loaded is None:
    result_or_progress(session.load_key(now))
    model.give_back_on_failure(now)
    model.welcome(now)
    st.stop()

model.give_back_on_failure(now)
changed_files(loaded)
fits = room(loaded, now.text, bos_of(now, loaded))
model_facts.model_metrics(loaded, fits)

setting = require_setting(loaded)
st.header("The setup")
preset_pills(loaded, setting)
model_facts.verdict_box(loaded, setting)
st.page_link("pages/tune.py", label="Search scales for this setup", icon=":material/tune:")
left, right = st.columns(2, gap="large")
with left:
    rope = rope_form(loaded, setting.rope, setting.search.length or loaded.geometry.original_context)
    length = length_form(loaded, now.length, setting, fits)
with right:
    quant = quant_form(replace(setting.quant, keep_layers=()), loaded.geometry.family)
    quant = kept_layers_form(quant, setting.quant.keep_layers, loaded.geometry)
    bands = band_form(loaded, setting.search.bands)

if (rope, quant, length) != (setting.rope, setting.quant, now.length):
    now = replace(now, rope=rope, quant=quant, length=length, evaluation=None)
if bands != setting.search.bands:
    now = replace(now, bands=bands)
if now != session.choice():
    session.choose(now)
    st.rerun()
delivered()
with st.expander("Everything about the model"):
    model_facts.model_table(loaded)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
