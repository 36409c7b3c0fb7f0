"""The setting strip on every page after Load: which model, under what, and whether rescaling can act."""

from __future__ import annotations

import streamlit as st

from pages.parts.session import choice, manager
from pages.parts.words import quant_words, rope_words
from qroar_core.escape import literal
from qroar_core.models.acting import verdict_on
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import NONE, own_rope, replaced_rope
from qroar_core.models.rope import bands_of
from qroar_core.results.search import Verdict
from qroar_core.runs.setting import Setting
from qroar_core.specs import RopeSpec

POLL = 2  # seconds between looks at the device's queue
VERDICTS = {
    "yes": ("Rescaling can act here", "green", ":material/check_circle:"),
    "temperature": ("Rescaling is only a temperature here", "orange", ":material/thermostat:"),
    "no": ("Rescaling cannot act here", "gray", ":material/block:"),
}


def verdict_for(loaded: LoadedModel, setting: Setting) -> Verdict:
    """Whether scales can act for this model and setting, said before any search."""
    search = setting.search
    return verdict_on(loaded.geometry, setting.quant, search.mode, bands_of(loaded, search.bands), search.angles)


def strip(loaded: LoadedModel, setting: Setting) -> Verdict:
    """Draw the strip; returns the verdict it shows."""
    said = verdict_for(loaded, setting)
    head, colour, icon = VERDICTS[said.acts]
    idle = manager().idle(str(loaded.device))  # before a look at the weights, which a job may change in between
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small", key="strip"):
        st.badge(literal(loaded.name), icon=":material/memory:", color="blue")
        st.badge(literal(_rope_words(loaded, setting.rope)), color="violet")
        st.badge(literal(quant_words(setting.quant)), color="violet")
        st.badge(f"{setting.search.length:d} tokens", color="gray")
        st.badge(f"{setting.search.bands.count:d} bands by {literal(setting.search.bands.partition)}", color="gray")
        if setting.text != "messages":
            st.badge(f"text: {literal(setting.text)}", color="gray")
        if choice().run:
            st.badge(f"run {literal(choice().run)}", icon=":material/folder_open:", color="blue")
        applied = loaded.applied is not None
        st.badge("scales applied" if applied else "weights as loaded", color="green" if applied else "gray")
        st.badge(literal(head), color=colour, icon=icon)
        st.page_link("pages/start.py", label="Change")
    if not idle:
        _follow(loaded)
    return said


def _rope_words(loaded: LoadedModel, rope: RopeSpec) -> str:
    """The interpolation, and the checkpoint's own: in force, or replaced."""
    replaced, own = replaced_rope(loaded, rope), own_rope(loaded)
    if replaced:
        return f"{rope_words(rope)}, replaces {replaced}"
    return rope_words(rope) if rope.method != "default" or own == NONE else f"{rope_words(rope)}: {own}"


def busy(loaded: LoadedModel) -> None:
    """Say whose turn it is on the model's device, until it is nobody's; then the page runs once more."""
    if not manager().idle(str(loaded.device)):
        _follow(loaded)


def _follow(loaded: LoadedModel) -> None:
    st.fragment(_busy, run_every=POLL)(str(loaded.device))


def _busy(device: str) -> None:
    if manager().idle(device):
        st.rerun()
    job = manager().busy(device)
    if job is not None:
        busy = f"{literal(device)} is busy: {literal(job.label)}"
        st.caption(f":material/hourglass: {busy}. What you start waits for its turn.")
