"""The line at the top of a page that needs a model: which model, under which setting, whether rescaling can act."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import streamlit as st

from pages.jobs.applied_scales import ScalesOrigin
from pages.state.candidates import FOUND
from pages.state.opened_runs import is_of
from pages.state.session import choice, library, load_key, manager
from pages.views.changed_model import changed_files
from pages.views.labels import quant_words, rope_words
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.interpolations.frequencies import bands_of
from qroar_core.models.applicability import applicability_on
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.own_rope import NONE, is_own, own_rope, replaced_rope
from qroar_core.number_of import number_of
from qroar_core.scale_search.result import Verdict
from qroar_core.setting import Setting
from qroar_core.specs import RopeSpec

VERDICTS: dict[str, tuple[str, Literal["green", "orange", "gray"], str]] = {  # words, colour, icon
    "yes": ("Rescaling can act here", "green", ":material/check_circle:"),
    "temperature": ("Rescaling only makes logits larger or smaller here", "orange", ":material/open_in_full:"),
    "no": ("Rescaling cannot act here", "gray", ":material/block:"),
}

APPLIED = "scales seen in the weights"  # session: (when the model was loaded, their name)


def verdict_for(loaded: LoadedModel, setting: Setting) -> Verdict:
    """Whether scales can act for this model and setting, said before any search."""
    search = setting.search
    bands = bands_of(loaded, search.bands)
    return applicability_on(loaded.geometry, setting.quant, search.mode, bands, search.angles, search.length)


def status_bar(loaded: LoadedModel, setting: Setting) -> Verdict:
    """Draw the bar; returns the verdict it shows."""
    changed_files(loaded)
    said = verdict_for(loaded, setting)
    head, colour, icon = VERDICTS[said.acts]
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small", key="status_bar"):
        st.badge(literal(loaded.name), icon=":material/memory:", color="blue")
        st.badge(literal(_rope_words(loaded, setting.rope)), color="violet")
        st.badge(literal(quant_words(setting.quant)), color="violet")
        st.badge(f"{setting.search.length:d} tokens", color="gray")
        bands = setting.search.bands
        st.badge(f"{number_of(bands.count, 'band')} by {literal(bands.partition)}", color="gray")
        if setting.text != "messages":
            st.badge(f"text: {literal(setting.text)}", color="gray")
        if choice().run:
            _run_badge(loaded)
        _weights_badge(loaded, setting)
        st.badge(literal(head), color=colour, icon=icon)
        st.page_link("pages/start.py", label="Change")
    _lost_scales(loaded)
    return said


def _lost_scales(loaded: LoadedModel) -> None:
    """Say that scales which this visitor has seen in the weights went when somebody loaded the model anew."""
    load = manager().snapshot(load_key(choice()))
    now = load.ended if load is not None else 0.0
    if loaded.applied is not None:
        name = loaded.applied_under.name if loaded.applied_under is not None else "scales"
        st.session_state[APPLIED] = (now, name)
    then, name = st.session_state.get(APPLIED, (now, ""))
    if then == now and loaded.applied is None:
        st.session_state.pop(APPLIED, None)  # undone
    elif then != now:
        st.caption(
            f"{literal(loaded.name)} was loaded anew since {literal(name)} had been applied: its weights are the "
            "checkpoint's own again."
        )


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
    elif under is None:
        st.badge("scales applied", color="gray")
    elif under.belongs_to(setting):
        mine = under.origin == ScalesOrigin(setting, FOUND).origin  # what the search of this setting, here, has found
        st.badge(f"scales applied: {literal(_origin(under))}", color="green" if mine else "orange")
    else:
        made, theirs = under.setting, "the same but for its text or its search"
        if (made.rope, made.quant) != (setting.rope, setting.quant):
            theirs = f"{rope_words(made.rope)}, {quant_words(made.quant)}"
        origin = literal(_origin(under))
        st.badge(f"scales of another setup applied: {literal(theirs)}; {origin}", color="orange")


def _origin(under: ScalesOrigin) -> str:
    """Who made the applied scales, short enough for a narrow window; Tune names the whole path."""
    return f"of the run folder {Path(under.folder).name} from elsewhere" if under.folder else under.origin


def _rope_words(loaded: LoadedModel, rope: RopeSpec) -> str:
    """The interpolation, and the checkpoint's own: in force, or replaced."""
    replaced, own = replaced_rope(loaded, rope), own_rope(loaded)
    if rope.method != "default" and is_own(loaded, rope):
        return f"{rope_words(rope)}, the checkpoint's own"
    if replaced:
        return f"{rope_words(rope)}, replaces {replaced}"
    return rope_words(rope) if rope.method != "default" or own == NONE else f"{rope_words(rope)}: {own}"
