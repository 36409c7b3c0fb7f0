"""What a page may ask about its visitor: the choice, the loaded model, the setting. Process-wide: the jobs."""

from __future__ import annotations

import gc
import time
from collections.abc import Hashable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.parts.boxes import refused
from pages.parts.choice import BESIDE, Choice, from_address, restored, setting_of, to_address
from pages.parts.leaving import end_with
from pages.parts.words import short_name
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.jobs import Manager
from qroar_core.models.devices import choose_devices
from qroar_core.models.loaded import LoadedModel
from qroar_core.models.loading import choose_dtype
from qroar_core.models.rope import bands_of, rope_of
from qroar_core.runs.library import Library
from qroar_core.runs.setting import Setting

BEGAN = "this run of the page began"  # session: time.monotonic()
MANUAL = "log2 g by hand"  # session: (bands, mode) -> log2 g per band; no widget's key, so it outlives the page
SEEN = "model that was in memory"  # session: its load key
MADE_BESIDE = "made beside"  # session: field of the choice -> what of the setting its form was filled beside


@st.cache_resource(show_spinner=False)
def manager() -> Manager:
    """The one job manager of this process, shared by all visitors.

    Streamlit collects garbage after every script run, polls included. With torch and transformers that walks
    half a million objects, 0.3 s in which no job computes; freezing what the imports made brings it to 5 ms.
    """
    gc.freeze()
    jobs = Manager(shelf=library().get)
    end_with(jobs)
    return jobs


@st.cache_resource(show_spinner=False)
def library() -> Library:
    """The runs on disk, shared by all visitors."""
    return Library()


def enter() -> None:
    """What app.py does before any page: a page change empties the address line, so put the choice back.

    After the browser's Back or Forward the address decides: it is what a person goes back to.
    """
    st.session_state["entered"], st.session_state[BEGAN] = True, time.monotonic()
    context = get_script_run_ctx()
    if context is not None and context.is_history_navigation and "choice" in st.session_state:
        for name in ("choice", MANUAL, MADE_BESIDE):
            st.session_state.pop(name, None)
    choose(choice())
    said = st.session_state.pop("notice", "")  # what the address asked for and could not have
    if said:
        st.warning(literal(said))


def choice() -> Choice:
    """This visitor's choice: from the session, or at its start from the address line. A run named there decides.

    A new server whose first address names a page runs that page's file without app.py, because Streamlit takes
    pages/ for its old way of many pages until `st.navigation` was called once: call it, and start over.
    """
    if "entered" not in st.session_state:
        named = urlsplit(st.context.url or "").path.rsplit("/", 1)[-1] or "start"
        st.navigation([st.Page(enter, title="Q-ROAR", default=True), st.Page(enter, title=named, url_path=named)])
        st.rerun()
    if "choice" not in st.session_state:
        asked = from_address(st.query_params.to_dict())
        if asked.run:
            try:
                from pages.parts.elsewhere import is_foreign, take_in  # they ask for the loaded model, and so need this

                entry = library().entry(asked.run)
                asked = replace(restored(entry), **{name: getattr(asked, name) for name in BESIDE})
                if is_foreign(entry):
                    take_in(entry)
            except QRoarError as problem:
                st.session_state["notice"] = f"The run of this address cannot be opened. {problem}."
                asked = replace(asked, run="")
        st.session_state["choice"] = asked
    return st.session_state["choice"]


def choose(new: Choice) -> None:
    """Make `new` this visitor's choice and put it into the address line; a changed run is that run no more."""
    before = st.session_state.get("choice", new)
    if new != replace(before, **{name: getattr(new, name) for name in BESIDE}) and new.run == before.run:
        new = replace(new, run="")
    st.session_state["choice"] = new
    wanted = to_address(new)
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def beside(name: str, near: Hashable, fresh: Any) -> tuple[bool, Any]:
    """What is asked in a form beside the setting, from the address or `fresh`.

    The first is True where the form still stands beside what it was filled beside, `near`: else what was asked may
    no longer fit.
    """
    asked = getattr(choice(), name)
    return st.session_state.get(MADE_BESIDE, {}).get(name, near) == near, fresh if asked is None else asked


def keep_beside(name: str, near: Hashable, asked: Any, fresh: Any) -> None:
    """Remember what is asked there, in the address too."""
    st.session_state.setdefault(MADE_BESIDE, {})[name] = near
    choose(replace(choice(), **{name: None if asked == fresh else asked}))


def load_key(picked: Choice) -> tuple:
    """Which load a choice means: `auto` is the device and dtype it stands for here."""
    try:
        devices = choose_devices(picked.device)
        return ("load", picked.model, " ".join(map(str, devices)), str(choose_dtype(picked.dtype, devices[0])))
    except QRoarError:
        return ("load", picked.model, picked.device, picked.dtype)


def model() -> LoadedModel | None:
    """The chosen model if it is in memory."""
    key = load_key(choice())
    loaded = manager().result(key)
    if loaded is not None:
        st.session_state[SEEN] = key
    return loaded


def absent_words(picked: Choice) -> str:
    """Why a chosen model is not in memory, and the way out; the name may be of an address, and is not escaped here."""
    name = short_name(picked.model)
    if st.session_state.get(SEEN) == load_key(picked):
        return f"{name} is no longer in memory: another model was loaded here since. Load it again?"
    return f"This link needs the model {name}. Load it?"


def require_model() -> tuple[LoadedModel, Setting]:
    """The model and its setting, or an empty state that says what to do next, and the page stops."""
    loaded = model()
    if loaded is None:
        from pages.parts.missing import missing  # it queues a load, and so needs this module itself

        missing(choice())
        st.stop()
    return loaded, require_setting(loaded)


def require_setting(loaded: LoadedModel) -> Setting:
    """The setting of this visitor, or one line saying what in it cannot be, and the page stops."""
    try:
        setting = setting_of(choice(), loaded)
        if setting.search.angles:
            loaded.geometry.require_turns()
        bands_of(loaded, setting.search.bands)
        rope_of(loaded, setting.rope, setting.search.length or loaded.geometry.original_context)
        return setting
    except QRoarError as problem:
        refused(f"This setting does not fit {loaded.name}: {problem.what}.")
        if st.button("Take the model's own setting", icon=":material/restart_alt:"):
            now = choice()
            choose(Choice(model=now.model, device=now.device, dtype=now.dtype, text=now.text))
            st.rerun()
        st.stop()
