"""What a page needs before it can show anything; without it, the page says what to do next and stops."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages import jobs
from pages.forms.diagnosis import diagnosis_form
from pages.state import session
from pages.state.choice import Choice, setting_of
from pages.state.clicks import carried_out, pressed
from pages.state.foreign_runs import source_of
from pages.state.widget_state import chosen, delivered
from pages.views.boxes import refused
from pages.views.job_progress import result_or_progress, running
from pages.views.no_model import no_model
from pages.views.render import figures_to_come
from pages.views.status_bar import status_bar
from qroar_core.diagnostics.result import Diagnosis
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.interpolations.frequencies import bands_of, rope_of
from qroar_core.models.loaded import LoadedModel
from qroar_core.setting import Setting
from qroar_core.transforms.refusals import why_not


def require_model() -> tuple[LoadedModel, Setting]:
    """The model and its setting, or an empty state that says what to do next, and the page stops."""
    loaded = session.model()
    if loaded is None:
        no_model(session.choice())
        st.stop()
    return loaded, require_setting(loaded)


def require_setting(loaded: LoadedModel) -> Setting:
    """The setting of this visitor, or one line saying what in it cannot be, and the page stops."""
    try:
        setting = setting_of(session.choice(), loaded)
        refused_kinds = why_not(loaded.geometry, setting.rope, setting.quant)  # their switches on Tune are greyed, too
        there = [name for name in setting.search.kinds if name not in refused_kinds]
        setting = replace(setting, search=setting.search.of_kinds(there))
        bands_of(loaded, setting.search.bands)
        rope_of(loaded, setting.rope, setting.search.length or loaded.geometry.original_context)
        return setting
    except QRoarError as problem:
        refused(f"This setup does not fit {loaded.name}: {problem.what}.")
        st.button("Use the model's own setup", on_click=_take_own, icon=":material/restart_alt:")
        st.stop()


@carried_out
def _take_own() -> None:
    now = session.choice()
    session.choose(Choice(model=now.model, device=now.device, dtype=now.dtype, text=now.text))


def diagnosis() -> tuple[LoadedModel, Setting, Diagnosis]:
    """Status bar, options and the Diagnose button; returns once the diagnosis of this setting is there."""
    loaded, setting = require_model()
    status_bar(loaded, setting)
    return diagnosis_below(loaded, setting)


def diagnosis_below(loaded: LoadedModel, setting: Setting) -> tuple[LoadedModel, Setting, Diagnosis]:
    """The same without the status bar, for a page that has shown something before."""
    spec = diagnosis_form(setting.diagnosis)
    if spec != setting.diagnosis:
        session.choose(replace(session.choice(), diagnosis=spec), chosen("diagnosis", spec))
        setting = replace(setting, diagnosis=spec)
    key = jobs.diagnose.key(loaded, setting)
    mine = jobs.diagnose.result(loaded, setting) is not None and source_of(key) is None
    if not mine and (
        click := pressed(
            "Diagnose",
            type="primary",
            disabled=running(key),
            icon=":material/play_arrow:",
        )
    ):
        jobs.diagnose.start(loaded, setting)
        click.over()
    result = result_or_progress(key)
    delivered()
    if result is None:
        if running(key):
            figures_to_come()
        else:
            st.info(
                "Not measured for this setup yet. **Diagnose** reads one long context and its short windows; "
                "Bands, Pressure, Tails, Outliers and Noise all show what it finds."
            )
        st.stop()
    return loaded, setting, result


def tuned_diagnosis(loaded: LoadedModel, setting: Setting) -> Diagnosis | None:
    """The same diagnosis with tuned scales in the weights, once asked for; says where scales come from otherwise.

    Tuned are what the search under this setting found, or else what is applied to the loaded weights under it.
    """
    from_search = jobs.search.key(loaded, setting)
    outcome, under = jobs.search.result(loaded, setting), loaded.applied_under
    applied = loaded.applied if under is not None and under.belongs_to(setting) else None
    scales = outcome.found if outcome is not None else applied
    if scales is None:
        st.caption(
            "Reference and quantized are shown. Search scales on the Tune page, and this page can show them "
            "beside these."
        )
        st.page_link("pages/tune.py", label="Go to Tune", icon=":material/tune:")
        return None
    key = jobs.diagnose.key(loaded, setting, scales)
    found = jobs.diagnose.result(loaded, setting, scales)
    if found is None and (
        click := pressed(
            "Overlay the tuned scales",
            disabled=running(key),
            icon=":material/layers:",
        )
    ):
        jobs.diagnose_scaled.start(loaded, setting, scales)
        click.over()
    found = result_or_progress(key)
    if found is not None and outcome is not None and outcome.report.chosen != "found":
        st.caption(f"The tuned scales are what the search found and did not keep: {literal(outcome.report.reason)}.")
    if found is not None and outcome is not None and (entry := source_of(from_search)) is not None:
        st.caption(f"The tuned scales are those of the run folder {literal(entry.path)}, opened by you.")
    if found is not None and outcome is None:
        st.caption(f"The tuned scales are those applied to the loaded weights: {literal(under.words)}.")
    return found
