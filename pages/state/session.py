"""What a page may ask about its visitor: the choice, the loaded model, the setting. Process-wide: the jobs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.server.preload import FIRST_ADDRESS
from pages.server.shutdown import end_with
from pages.state.choice import BESIDE, Choice, read_address, restored, to_address
from pages.state.clicks import left_behind
from pages.state.opened_runs import is_foreign, take_in
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.job import JobKey
from qroar_core.jobs import Manager
from qroar_core.models.devices import choose_devices
from qroar_core.models.load import choose_dtype
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.store import RunStore

T = TypeVar("T")
BEGAN = "this run of the page began"  # session: time.monotonic()
MANUAL = "log2 g by hand"  # session: (bands, mode) -> log2 g per band; no widget's key, so it outlives the page
REQUESTED_JOBS = "keys of the jobs that were asked for here"  # session
BACK = "the address decides"  # session: the browser went back or forward, and the choice is still to be read from it
NOTICE = "what an address could not have"  # session: (a sentence, the choice that was made instead)
LAST_MODEL_KEY = "model that was in memory"  # session: its load key
MADE_BESIDE = "made beside"  # session: field of the choice -> what of the setting its form was filled beside


@st.cache_resource(show_spinner=False)
def manager() -> Manager:
    """The one job manager of this process, shared by all visitors.

    Streamlit collects garbage after every script run, polls included. With torch and transformers that walks
    half a million objects, 0.3 s in which no job computes; freezing what the imports made brings it to 5 ms.
    """
    gc.freeze()
    jobs = Manager(store=library().get)
    end_with(jobs)
    return jobs


@st.cache_resource(show_spinner=False)
def library() -> RunStore:
    """The runs on disk, shared by all visitors."""
    return RunStore()


def enter() -> None:
    """What app.py does before any page: a page change empties the address line, so put the choice back.

    After the browser's Back or Forward the address decides: it is what a person goes back to.
    """
    context = get_script_run_ctx()
    if context is not None and context.is_history_navigation:
        st.session_state[BACK] = True  # first, and forgotten last: this run may end, and the next knows of no Back
    st.session_state["entered"], st.session_state[BEGAN] = True, time.monotonic()
    if BACK in st.session_state:
        for name in (MANUAL, MADE_BESIDE, "choice", BACK):
            st.session_state.pop(name, None)
    choose(choice())
    left_behind()
    said, of = st.session_state.get(NOTICE, ("", None))
    if said and of == choice():  # not once: the first run of a page is often followed by another at once
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
        asked, unread = read_address(st.query_params.to_dict() or st.session_state.get(FIRST_ADDRESS, {}))
        if asked.run:
            try:
                entry = library().entry(asked.run)
                asked = replace(restored(entry), **{name: getattr(asked, name) for name in BESIDE})
                if is_foreign(entry):
                    take_in(entry)
            except QRoarError as problem:
                asked = replace(asked, run="")
                st.session_state[NOTICE] = (f"The run of this address cannot be opened. {problem}.", asked)
        if unread:
            one = len(unread) == 1
            used = "its default is used" if one else "their defaults are used"
            said = f"Of this link, {' and '.join(unread)} could not be read; {used} instead."
            before = st.session_state.get(NOTICE, ("", None))
            st.session_state[NOTICE] = (f"{before[0]} {said}" if before[1] == asked else said, asked)
        st.session_state["choice"] = asked
        st.session_state.pop(FIRST_ADDRESS, None)
    return st.session_state["choice"]


def choose(new: Choice, *also: Callable[[], object]) -> None:
    """Make `new` this visitor's choice and put it into the address line; a changed run is that run no more.

    Streamlit may end this run at every touch of the session: what must be kept together with the choice, or not at all,
    is written by `also`, which touch nothing else. The address is mended by the next run.
    """
    before = st.session_state.get("choice", new)
    if new != replace(before, **{name: getattr(new, name) for name in BESIDE}) and new.run == before.run:
        new = replace(new, run="")
    st.session_state["choice"] = new
    for write in also:
        write()
    wanted = to_address(new)
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def asked_here() -> set[Hashable]:
    """The keys of what this visitor asked for, to add to: a job is noted where no run can be ended behind its start."""
    keys: set[Hashable] = st.session_state.setdefault(REQUESTED_JOBS, set())
    return keys


def is_asked_here(key: Hashable) -> bool:
    """Did this session ask for it, perhaps as others did? A reload begins another session."""
    return key in st.session_state.get(REQUESTED_JOBS, ())


def beside(name: str, near: Hashable, fresh: T) -> tuple[bool, T]:
    """What is asked in a form beside the setting, from the address or `fresh`.

    The first is True where the form still stands beside what it was filled beside, `near`: else what was asked may
    no longer fit.
    """
    asked = getattr(choice(), name)
    return st.session_state.get(MADE_BESIDE, {}).get(name, near) == near, fresh if asked is None else asked


def keep_beside(near: Hashable, made: Callable[[], object], **asked: tuple[Any, Any]) -> None:
    """Remember what is asked there, in the address too.

    Args:
        made: notes what the form made of its widgets, see `widget_state.chosen`.
        asked: by field of the choice, with what it is where nothing is asked.
    """
    held: dict[str, Hashable] = st.session_state.setdefault(MADE_BESIDE, {})
    changed: dict[str, Any] = {name: None if wanted == fresh else wanted for name, (wanted, fresh) in asked.items()}
    choose(replace(choice(), **changed), made, partial(held.update, dict.fromkeys(asked, near)))


def load_key(picked: Choice) -> JobKey[LoadedModel]:
    """Which load a choice means: `auto` is the device and dtype it stands for here."""
    try:
        devices = choose_devices(picked.device)
        dtype = str(choose_dtype(picked.dtype, devices[0]))
        return JobKey(("load", picked.model, " ".join(map(str, devices)), dtype))
    except QRoarError:
        return JobKey(("load", picked.model, picked.device, picked.dtype))


def model() -> LoadedModel | None:
    """The chosen model if it is in memory."""
    key = load_key(choice())
    loaded = manager().result(key)
    if loaded is not None:
        st.session_state[LAST_MODEL_KEY] = key
    return loaded
