"""What a page may ask about its visitor: the choice, the loaded model, the setting. Process-wide: the jobs."""

from __future__ import annotations

import gc
import importlib

import streamlit as st

from pages.parts.choice import Choice, from_address, setting_of, to_address
from qroar_core.errors import QRoarError
from qroar_core.jobs import Manager
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.setting import Setting


@st.cache_resource(show_spinner=False)
def manager() -> Manager:
    """The one job manager of this process, shared by all visitors.

    Streamlit collects garbage after every script run, polls included. With torch and transformers that walks
    half a million objects, 0.3 s in which no job computes; freezing what the imports made brings it to 5 ms.
    """
    for stage in ("loading", "diagnosing", "searching", "evaluating", "exporting"):  # everything heavy, first
        importlib.import_module(f"pages.parts.work.{stage}")
    gc.freeze()
    return Manager()


def choice() -> Choice:
    """This visitor's choice: from the session, or at its start from the address line."""
    if "choice" not in st.session_state:
        st.session_state["choice"] = from_address(st.query_params.to_dict())
    return st.session_state["choice"]


def choose(new: Choice) -> None:
    """Make `new` this visitor's choice and put it into the address line."""
    st.session_state["choice"] = new
    wanted = to_address(new)
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def load_key(picked: Choice) -> tuple:
    """Which load a choice means."""
    return ("load", picked.model, picked.device, picked.dtype)


def model() -> LoadedModel | None:
    """The chosen model if it is in memory."""
    return manager().result(load_key(choice()))


def require_model() -> tuple[LoadedModel, Setting]:
    """The model and its setting, or an empty state that says what to do next, and the page stops."""
    loaded = model()
    if loaded is None:
        picked = choice()
        loading = manager().snapshot(load_key(picked))
        if loading is not None and loading.active:
            st.info(
                f"**{picked.model}** is being loaded. Its progress is on the Start page.", icon=":material/hourglass:"
            )
        elif picked.model:
            st.info(f"**{picked.model}** is not in memory (another model took its place, or the dashboard was "
                    "restarted). Load it again; finished results come back with it.")  # fmt: skip
        else:
            st.info("No model is loaded yet. Start with the demo model: one click on the Start page.")
        st.page_link("pages/start.py", label="Go to Start", icon=":material/arrow_back:")
        st.stop()
    return loaded, require_setting(loaded)


def require_setting(loaded: LoadedModel) -> Setting:
    """The setting of this visitor, or one line saying what in it cannot be, and the page stops."""
    try:
        return setting_of(choice(), loaded)
    except QRoarError as problem:
        st.error(str(problem))
        st.stop()
