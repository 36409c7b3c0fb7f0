"""Tune: search the band scales, see what was found and whether to keep it, put it into the loaded weights."""

from dataclasses import replace

import streamlit as st

from pages.parts import forms, session
from pages.parts.patch_buttons import patch_buttons
from pages.parts.show import numbers, picture
from pages.parts.strip import strip
from pages.parts.watch import running, watch
from pages.parts.work import searching
from qroar_core.figures import scales, search_trace
from qroar_core.models.scales_file import to_file

st.title("Tune")
loaded, setting = session.require_model()
said = strip(loaded, setting)

spec = forms.search_form(setting.search)
if spec != setting.search:
    session.choose(replace(session.choice(), search=spec))
    st.rerun()
if said.acts != "yes":
    st.warning(f"{said.reason} A search would only follow noise; change the quantizer, or go on to see it.")

key = searching.key(loaded, setting)
if st.button("Start the search", type="primary", disabled=running(key), icon=":material/play_arrow:"):
    searching.start(loaded, setting)
    st.rerun()


def live(details: tuple) -> None:
    """Best so far, while the search runs."""
    seen = search_trace.candidates_of(details)
    if seen:
        st.metric(f"Best of {len(seen)} candidates so far", f"{seen[-1].best:.5g}")
        picture(search_trace.candidates(seen, setting.search.objective), "live")


outcome = watch(key, live)
if outcome is None:
    if not running(key):
        st.info(
            "No search under this setting yet. It starts with the diagnosis its bounds come from, if that is missing."
        )
    st.stop()

report = outcome.report
good = report.chosen == "found"
said_so = report.reason[:1].upper() + report.reason[1:]
(st.success if good else st.warning)(f"**{said_so}.** {'The scales are kept.' if good else ''}")
patch_buttons(loaded, outcome)
picture(scales.by_layer_and_band(to_file(loaded, setting.rope, setting.quant, outcome.found)), "scales")
if report.history:
    picture(search_trace.candidates(report.history, report.objective), "trace")
with st.expander("The search in numbers"):
    numbers(search_trace.summary(report), "search")
st.page_link("pages/evaluate.py", label="Next: evaluate", icon=":material/arrow_forward:")
