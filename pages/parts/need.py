"""What a page needs before it can show anything; without it, the page says what to do next and stops."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.parts import forms, session
from pages.parts.elsewhere import source_of
from pages.parts.follow import delivered
from pages.parts.strip import strip
from pages.parts.watch import running, watch
from pages.parts.work import diagnosing, searching
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel
from qroar_core.results import Diagnosis
from qroar_core.runs.setting import Setting


def diagnosis() -> tuple[LoadedModel, Setting, Diagnosis]:
    """Strip, options and the Diagnose button; returns once the diagnosis of this setting is there."""
    loaded, setting = session.require_model()
    strip(loaded, setting)
    return diagnosis_below(loaded, setting)


def diagnosis_below(loaded: LoadedModel, setting: Setting) -> tuple[LoadedModel, Setting, Diagnosis]:
    """The same without the strip, for a page that has shown something before."""
    spec = forms.diagnosis_form(setting.diagnosis)
    if spec != setting.diagnosis:
        session.choose(replace(session.choice(), diagnosis=spec))
        setting = replace(setting, diagnosis=spec)
    key = diagnosing.key(loaded, setting)
    mine = diagnosing.result(loaded, setting) is not None and source_of(key) is None
    if not mine and st.button("Diagnose", type="primary", disabled=running(key), icon=":material/play_arrow:"):
        diagnosing.start(loaded, setting)
        st.rerun()
    result = watch(key)
    delivered()
    if result is None:
        if not running(key):
            st.info(
                "Not measured for this setting yet. **Diagnose** reads one long context and its short windows; "
                "Bands, Pressure, Tails, Outliers and Noise all show what it finds."
            )
        st.stop()
    return loaded, setting, result


def tuned_diagnosis(loaded: LoadedModel, setting: Setting) -> Diagnosis | None:
    """The same diagnosis with tuned scales in the weights, once asked for; says where scales come from otherwise.

    Tuned are what the search under this setting found, or else what is applied to the loaded weights under it.
    """
    from_search = searching.key(loaded, setting)
    outcome, under = searching.result(loaded, setting), loaded.applied_under
    applied = loaded.applied if under is not None and under.belongs_to(setting) else None
    scales = outcome.found if outcome is not None else applied
    if scales is None:
        st.caption("Reference and quantized are shown. Search scales on the Tune page, and this page can show them "
                   "beside these.")
        st.page_link("pages/tune.py", label="Go to Tune", icon=":material/tune:")
        return None
    key = diagnosing.key(loaded, setting, scales)
    found = diagnosing.result(loaded, setting, scales)
    if found is None and st.button("Overlay the tuned scales", disabled=running(key), icon=":material/layers:"):
        diagnosing.start(loaded, setting, scales)
        st.rerun()
    found = watch(key)
    if found is not None and outcome is not None and outcome.report.chosen != "found":
        st.caption(f"The tuned scales are what the search found and did not keep: {literal(outcome.report.reason)}.")
    if found is not None and outcome is not None and (entry := source_of(from_search)) is not None:
        st.caption(f"The tuned scales are those of the run folder {literal(entry.path)}, opened by you.")
    if found is not None and outcome is None:
        st.caption(f"The tuned scales are those applied to the loaded weights: {literal(under.name)}.")
    return found
