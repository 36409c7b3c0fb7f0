"""The setting strip on every page after Load: which model, under what, and whether rescaling can act."""

from __future__ import annotations

import streamlit as st

from pages.parts.changed import changed_files
from pages.parts.elsewhere import is_of
from pages.parts.session import choice, library
from pages.parts.words import quant_words, rope_words
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.models.acting import verdict_on
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import NONE, own_rope, replaced_rope
from qroar_core.models.rope import bands_of
from qroar_core.results.search import Verdict
from qroar_core.runs.setting import Setting
from qroar_core.specs import RopeSpec

VERDICTS = {
    "yes": ("Rescaling can act here", "green", ":material/check_circle:"),
    "temperature": ("Rescaling only makes logits larger or smaller here", "orange", ":material/open_in_full:"),
    "no": ("Rescaling cannot act here", "gray", ":material/block:"),
}


def verdict_for(loaded: LoadedModel, setting: Setting) -> Verdict:
    """Whether scales can act for this model and setting, said before any search."""
    search = setting.search
    bands = bands_of(loaded, search.bands)
    return verdict_on(loaded.geometry, setting.quant, search.mode, bands, search.angles, search.length)


def strip(loaded: LoadedModel, setting: Setting) -> Verdict:
    """Draw the strip; returns the verdict it shows."""
    changed_files(loaded)
    said = verdict_for(loaded, setting)
    head, colour, icon = VERDICTS[said.acts]
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small", key="strip"):
        st.badge(literal(loaded.name), icon=":material/memory:", color="blue")
        st.badge(literal(_rope_words(loaded, setting.rope)), color="violet")
        st.badge(literal(quant_words(setting.quant)), color="violet")
        st.badge(f"{setting.search.length:d} tokens", color="gray")
        st.badge(f"{setting.search.bands.count:d} bands by {literal(setting.search.bands.partition)}", color="gray")
        if setting.text != "messages":
            st.badge(f"text: {literal(setting.text)}", color="gray")
        if choice().run:
            _run_badge(loaded)
        _weights_badge(loaded, setting)
        st.badge(literal(head), color=colour, icon=icon)
        st.page_link("pages/start.py", label="Change")
    return said


def _run_badge(loaded: LoadedModel) -> None:
    """The run that the setting was opened from, and whether its results can be in view."""
    run, icon = choice().run, ":material/folder_open:"
    try:
        beside = "" if is_of(library().entry(run), loaded) else ", of another model"
    except QRoarError:
        beside = ", no longer there"
    st.badge(literal(f"run {run}{beside}"), icon=icon, color="orange" if beside else "blue")


def _weights_badge(loaded: LoadedModel, setting: Setting) -> None:
    under = loaded.applied_under
    if loaded.applied is None:
        st.badge("weights as loaded", color="gray")
    elif under is None or under.belongs_to(setting):
        st.badge("scales applied", color="green")
    else:
        made, theirs = under.setting, "the same but for its text or its search"
        if (made.rope, made.quant) != (setting.rope, setting.quant):
            theirs = f"{rope_words(made.rope)}, {quant_words(made.quant)}"
        st.badge(f"scales of another setting applied: {literal(theirs)}", color="orange")


def _rope_words(loaded: LoadedModel, rope: RopeSpec) -> str:
    """The interpolation, and the checkpoint's own: in force, or replaced."""
    replaced, own = replaced_rope(loaded, rope), own_rope(loaded)
    if replaced:
        return f"{rope_words(rope)}, replaces {replaced}"
    return rope_words(rope) if rope.method != "default" or own == NONE else f"{rope_words(rope)}: {own}"
