"""Bands, scales by hand, and the candidates to compare, measure and apply: redrawn alone while a person drags."""

from __future__ import annotations

import streamlit as st

from pages import jobs
from pages.forms.apply_scales import patch_buttons
from pages.forms.bands import bands_table
from pages.forms.manual_scales import alone, errors, measured, sliders
from pages.state.candidates import FOUND, HAND, MAD, SMOOTH, candidates, manual_scales
from pages.state.clicks import carried_out, pressed
from pages.views.candidate_detail import candidate_detail
from pages.views.job_progress import result_or_progress, running
from pages.views.render import heading
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel
from qroar_core.scale_search import run as search
from qroar_core.scale_search.manual_scales import Probe
from qroar_core.scale_search.outcome import SearchOutcome
from qroar_core.setting import Setting
from qroar_core.transforms.scales import Scales

PICK = "scales in view"
TEXT_BEING_READ = "the text is being read for a candidate"


def candidates_panel(loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None) -> None:
    """Everything about bands and scales of this setting. `outcome` is the search's, finished or cancelled, or None."""
    probe = jobs.probe.result(loaded, setting)
    if probe is None:
        result_or_progress(jobs.probe.key(loaded, setting))
    st.fragment(_panel)(loaded, setting, outcome, probe)


def _panel(loaded: LoadedModel, setting: Setting, outcome: SearchOutcome | None, probe: Probe | None) -> None:
    sees = setting.quant.k is not None or setting.quant.qk is not None
    diagnosis = jobs.diagnose.result(loaded, setting)
    plan = search.plan(loaded, setting, diagnosis)
    heading("Bands, bounds and scales by hand", "by-hand")
    bands_table(setting, plan, diagnosis)
    if not sees:
        st.caption("Scales by hand have no cached error here: neither the K cache nor q and k are quantized.")
    elif probe is not None:
        sliders(plan)
    else:
        _offer_to_read(loaded, setting)
    manual = manual_scales(plan.none)
    offered = candidates(outcome, manual, probe)
    if probe is not None:
        errors(probe, offered)
        alone(probe, manual)
        st.caption(literal(measured(probe)))
    heading("Scales to look at and to apply", "candidates")
    picked = _pick(loaded, setting, offered, sees)
    if picked in offered:
        candidate_detail(loaded, setting, plan, outcome, offered, picked)
    else:
        patch_buttons(loaded, setting, None, offered)


def _offer_to_read(loaded: LoadedModel, setting: Setting) -> None:
    busy = running(jobs.probe.key(loaded, setting))
    with st.container(horizontal=True, vertical_alignment="center"):
        if click := pressed("Try scales by hand", icon=":material/touch_app:", disabled=busy):
            jobs.probe.start(loaded, setting)
            click.over()
        st.caption("Reads calibration text once; then every scale you drag or type shows its error at once.")


def _pick(loaded: LoadedModel, setting: Setting, offered: dict[str, tuple[Scales, str]], sees: bool) -> str | None:
    """The candidate a person looks at. Statistics-only scales are always one click away: it reads the text for them."""
    names = [n for n in (FOUND, SMOOTH, MAD, HAND) if n in offered or (n in (SMOOTH, MAD) and sees)]
    if not names:
        st.caption("Nothing to choose from: no search yet, and no scale set by hand.")
        return None
    if st.session_state.get(PICK) not in names:
        st.session_state[PICK] = FOUND if FOUND in offered else None
    picked = st.segmented_control(
        "Scales in view", names, key=PICK, on_change=_read_for, args=(loaded, setting, offered)
    )
    if st.session_state.pop(TEXT_BEING_READ, False):
        st.rerun()  # the whole page, whose upper part shows the progress
    return picked


@carried_out
def _read_for(loaded: LoadedModel, setting: Setting, offered: dict[str, tuple[Scales, str]]) -> None:
    if st.session_state[PICK] is not None and st.session_state[PICK] not in offered:
        st.session_state[TEXT_BEING_READ] = True
        jobs.probe.start(loaded, setting)  # last: a callback that is ended is called again
