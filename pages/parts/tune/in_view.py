"""One candidate: what is known of it, its gain, Apply and Undo, and its map."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.candidates import FOUND, HAND, set_manual
from pages.parts.choice import REACH
from pages.parts.patch_buttons import patch_buttons
from pages.parts.show import picture
from pages.parts.tune.bands import STEP
from pages.parts.watch import running, watch
from pages.parts.work import probing
from qroar_core.escape import literal
from qroar_core.figures import angles
from qroar_core.figures import scales as drawn
from qroar_core.maths.rescale import Scales, pooled
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.scales_file import to_file
from qroar_core.results.intervals import NO_GAIN
from qroar_core.runs.setting import Setting
from qroar_core.searching.frame import Plan


def in_view(loaded: LoadedModel, setting: Setting, plan: Plan, outcome: Any, offered: dict[str, tuple[Scales, str]],
            picked: str) -> None:  # fmt: skip
    """Draw the candidate `picked` of `offered`."""
    scales, said = offered[picked]
    gain = _gain_words(loaded, setting, scales)
    ours = f" **{literal(gain)}**" if gain else ""
    st.markdown(f"**{literal(picked[:1].upper() + picked[1:])}.** {literal(said)}{ours}")
    told = picked == FOUND and not outcome.report.cancelled  # what the search decided by stands there already
    with st.container(horizontal=True):
        if not told:
            _measure(loaded, setting, scales)
        if picked != HAND:
            st.button("Copy to by hand", on_click=_copy, args=(plan, scales), icon=":material/content_copy:",
                      help="The mean over layers and heads of each band's log2 g")  # fmt: skip
    if not told and probing.gain(loaded, setting, scales) is None:
        watch(probing.gain_key(loaded, setting, scales))
    patch_buttons(loaded, setting, scales, offered)
    content = to_file(loaded, setting.rope, setting.quant, scales)
    picture(drawn.by_layer_and_band(content), "scales")
    turned = angles.by_layer_and_pair(content)
    if turned is not None:
        picture(turned, "pair angles")


def _copy(plan: Plan, scales: Scales) -> None:
    """Called before the page is drawn again: a slider takes no value from outside once it is drawn."""
    mean = pooled(scales.g.log2(), "model")[0, 0].clamp(-REACH, REACH)
    steps = tuple(round(round(x / STEP) * STEP, 2) + 0.0 for x in mean.tolist())  # what table and sliders can stand at
    set_manual(plan.none.bands, plan.none.mode, steps)


def _measure(loaded: LoadedModel, setting: Setting, scales: Scales) -> None:
    if probing.gain(loaded, setting, scales) is not None:
        return
    idle = scales.is_identity or running(probing.gain_key(loaded, setting, scales))
    if st.button("Measure the gain", icon=":material/balance:", disabled=idle, help="On development text"):
        probing.measure(loaded, setting, scales)
        st.rerun()


def _gain_words(loaded: LoadedModel, setting: Setting, scales: Scales) -> str:
    gain = probing.gain(loaded, setting, scales)
    if gain is None:
        return ""
    return f"Significant gain: {gain.measured}." if gain.significant else f"{NO_GAIN.capitalize()} ({gain.measured})."
