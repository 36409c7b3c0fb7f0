"""Bands, scales by hand, and the candidates to compare, measure and apply: redrawn alone while a person drags."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.candidates import FOUND, HAND, MAD, SMOOTH, candidates, manual_scales
from pages.parts.patch_buttons import patch_buttons
from pages.parts.tune import by_hand
from pages.parts.tune.bands import bands_table
from pages.parts.tune.in_view import in_view
from pages.parts.watch import running, watch
from pages.parts.work import diagnosing, probing
from qroar_core import search
from qroar_core.escape import literal
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.setting import Setting
from qroar_core.searching.probe import Probe

PICK = "scales in view"
ASKED = "the text is being read for a candidate"


def desk(loaded: LoadedModel, setting: Setting, outcome: Any) -> None:
    """Everything about bands and scales of this setting. `outcome` is the search's, finished or cancelled, or None."""
    probe = probing.result(loaded, setting)
    if probe is None:
        watch(probing.key(loaded, setting))
    st.fragment(_desk)(loaded, setting, outcome, probe)


def _desk(loaded: LoadedModel, setting: Setting, outcome: Any, probe: Probe | None) -> None:
    sees = setting.quant.k is not None or setting.quant.qk is not None
    diagnosis = diagnosing.result(loaded, setting)
    plan = search.plan(loaded, setting.rope, setting.quant, setting.search, diagnosis)
    st.subheader("Bands, bounds and scales by hand")
    bands_table(setting, plan, diagnosis)
    if not sees:
        st.caption("Scales by hand have no cached error here: neither the K cache nor q and k are quantized.")
    elif probe is not None:
        by_hand.sliders(plan)
    else:
        _offer_to_read(loaded, setting)
    manual = manual_scales(plan.none)
    offered = candidates(outcome, manual, probe)
    if probe is not None:
        by_hand.errors(probe, offered)
        by_hand.alone(probe, manual)
        st.caption(literal(by_hand.measured(probe)))
    st.subheader("Scales to look at and to apply")
    picked = _pick(loaded, setting, offered, sees)
    if picked in offered:
        in_view(loaded, setting, plan, outcome, offered, picked)
    else:
        patch_buttons(loaded, setting, None, offered)


def _offer_to_read(loaded: LoadedModel, setting: Setting) -> None:
    busy = running(probing.key(loaded, setting))
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Try scales by hand", icon=":material/touch_app:", disabled=busy):
            probing.start(loaded, setting)
            st.rerun()
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
    if st.session_state.pop(ASKED, False):
        st.rerun()  # the whole page, whose upper part shows the progress
    return picked


def _read_for(loaded: LoadedModel, setting: Setting, offered: dict[str, tuple[Scales, str]]) -> None:
    if st.session_state[PICK] is not None and st.session_state[PICK] not in offered:
        probing.start(loaded, setting)
        st.session_state[ASKED] = True
