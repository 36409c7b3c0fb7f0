"""Start: a model in one click, the setting it is studied under, and whether rescaling can act there."""

from dataclasses import replace

import streamlit as st

from pages.parts import cards, forms, session, strip
from pages.parts.choice import LEAST_LENGTH
from pages.parts.quant_form import quant_form
from pages.parts.watch import watch
from pages.parts.work import loading
from qroar_core.errors import QRoarError

st.title("Load a model")
st.write("Position interpolation plus quantization costs more than either alone. See where, per frequency band, "
         "and repair a part of it with scales on W_Q and W_K.")  # fmt: skip

picked = cards.pick_model(session.choice())
if picked is not None:
    try:
        loading.start(picked)
        session.choose(picked)
        st.rerun()
    except QRoarError as problem:
        st.error(str(problem))

choice = session.choice()
loaded = watch(session.load_key(choice))
if loaded is None:
    st.stop()

setting = session.require_setting(loaded)
left, right = st.columns(2, gap="large")
with left:
    st.subheader("The model")
    cards.model_card(loaded)
with right:
    st.subheader("The setting")
    rope = forms.rope_form(setting.rope)
    quant = quant_form(setting.quant)
    bands = forms.band_form(setting.search.bands, loaded.geometry.n_pairs)
    native = loaded.geometry.original_context
    typed = st.number_input("Context length L, tokens (0: what the interpolation promises)", 0, 2**20,
                            choice.length or 0, 64, key="length")  # fmt: skip
    length = max(int(typed), LEAST_LENGTH) if typed else None
    st.caption(f"Native window {native} tokens; L is now {length or setting.search.length}.")

if (rope, quant, length) != (setting.rope, setting.quant, choice.length):
    choice = replace(choice, rope=rope, quant=quant, length=length, evaluation=None)
if replace(choice, bands=bands) != session.choice():
    session.choose(replace(choice, bands=bands))
    st.rerun()

said = strip.verdict_for(loaded, setting)
head = strip.VERDICTS[said.acts][0]
why = said.reason.removeprefix("Scales can act: ")
{"yes": st.success, "temperature": st.warning, "no": st.warning}[said.acts](f"**{head}:** {why}")
strip.busy(loaded)
st.page_link("pages/pressure.py", label="Next: pressure", icon=":material/arrow_forward:")
