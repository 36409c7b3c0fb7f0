"""What a page needs before it can show anything; without it, the page says what to do next and stops."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.parts import forms, session
from pages.parts.strip import strip
from pages.parts.watch import running, watch
from pages.parts.work import diagnosing
from qroar_core.models.loaded import LoadedModel
from qroar_core.results import Diagnosis
from qroar_core.runs.setting import Setting


def diagnosis() -> tuple[LoadedModel, Setting, Diagnosis]:
    """Strip, options and the Diagnose button; returns once the diagnosis of this setting is there."""
    loaded, setting = session.require_model()
    strip(loaded, setting)
    spec = forms.diagnosis_form(setting.diagnosis)
    if spec != setting.diagnosis:
        session.choose(replace(session.choice(), diagnosis=spec))
        setting = replace(setting, diagnosis=spec)
    key = diagnosing.key(loaded, setting)
    found = diagnosing.result(loaded, setting)
    if found is None and st.button("Diagnose", type="primary", disabled=running(key), icon=":material/play_arrow:"):
        diagnosing.start(loaded, setting)
        st.rerun()
    result = watch(key)
    if result is None:
        if not running(key):
            st.info(
                "Nothing measured under this setting yet. **Diagnose** reads one long context and its short windows; "
                "Pressure, Tails, Outliers and Noise all show what it finds."
            )
        st.stop()
    return loaded, setting, result
