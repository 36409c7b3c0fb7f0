"""Start: a model in one click, its setting, and whether rescaling can act there."""

from dataclasses import replace

import streamlit as st

from pages.parts import cards, model_picker, session, setting_form
from pages.parts.changed import changed_files
from pages.parts.choice import bos_of
from pages.parts.follow import delivered
from pages.parts.quant_form import quant_form
from pages.parts.room import room
from pages.parts.watch import watch
from pages.parts.words import short_name
from qroar_core.escape import literal

QUESTION = "Where does your long-context model lose, and what can be repaired?"

now = session.choice()
loaded = session.model()
st.title(QUESTION if loaded is None else literal(short_name(loaded.name, 30)))
model_picker.first_row(now, loaded is None)  # in one place before and after, so that the keyboard's focus stays on it
if loaded is None:
    model_picker.reload_button(now)
    watch(session.load_key(now))
    model_picker.give_back_on_failure(now)
    model_picker.welcome(now)
    st.stop()

model_picker.give_back_on_failure(now)
changed_files(loaded)
fits = room(loaded, now.text, bos_of(now, loaded))
cards.model_metrics(loaded, fits)

setting = session.require_setting(loaded)
st.subheader("The setting")
setting_form.preset_pills(loaded, setting)
cards.verdict_box(loaded, setting)
st.page_link("pages/tune.py", label="Search scales for this setting", icon=":material/tune:")
left, right = st.columns(2, gap="large")
with left:
    rope = setting_form.rope_form(loaded, setting.rope, setting.search.length)
    length = setting_form.length_form(loaded, now.length, setting, fits)
with right:
    quant = quant_form(setting.quant, loaded.model.config.model_type)
    bands = setting_form.band_form(loaded, setting.search.bands)

if (rope, quant, length) != (setting.rope, setting.quant, now.length):
    now = replace(now, rope=rope, quant=quant, length=length, evaluation=None)
if bands != setting.search.bands:
    now = replace(now, bands=bands)
if now != session.choice():
    session.choose(now)
    st.rerun()
delivered()
with st.expander("Everything about the model"):
    cards.model_table(loaded)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
