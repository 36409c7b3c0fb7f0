"""Buttons that open a run, from a menu or a folder, and go to the Runs page with its setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import streamlit as st

from pages.state.choice import restored, setting_of, to_address
from pages.state.clicks import carried_out
from pages.state.opened_runs import is_foreign, is_of, take_in
from pages.state.paths import confined
from pages.state.session import choice, choose, library, model
from pages.views.boxes import refused
from qroar_core.errors import QRoarError
from qroar_core.escape import code
from qroar_core.runs.record import RunRecord
from qroar_core.runs.store import runs_root

OPENING = "last click that opens a run"  # session: an OpenRunOutcome


class OpenRunOutcome(TypedDict, total=False):
    """What came of the last click on a button that opens a run, in a dict of its own: it is kept with the choice."""

    turn: bool  # to the Runs page
    refused: tuple[str, str]  # what was asked for, and why not


def to_opened() -> None:
    """After a run was opened: go to the Runs page, whose address is made whole by now. To be called before a page."""
    if _opening().pop("turn", False):
        st.switch_page("pages/runs.py", query_params=to_address(choice()))  # without them, one more entry for Back


def _opening() -> OpenRunOutcome:
    opening: OpenRunOutcome = st.session_state.setdefault(OPENING, {})
    return opening


def say_refused(asked: str) -> None:
    """Why the run of this path, or what was typed for one, was not opened at the last click; nothing for others."""
    of, why = _opening().get("refused", (None, ""))
    if of == asked:
        refused(why)


@carried_out
def open_picked() -> None:
    """What the menu says at the click, which may be another run than when the page was drawn."""
    open_path(st.session_state["run to open"])


@carried_out
def open_path(path: str) -> None:
    """Called before the page is drawn again: while a run comes to the button, the click may be lost."""
    opening = _opening()
    opening.pop("refused", None)
    try:
        _open_run(library().open(Path(path)), path)
    except QRoarError as problem:
        opening["refused"] = (path, f"{Path(path).name} cannot be opened any more: {problem}")


@carried_out
def _open_typed() -> None:
    opening, typed = _opening(), st.session_state["run folder path"]
    opening.pop("refused", None)
    try:
        _open_run(library().open(confined(typed)), typed)
    except QRoarError as problem:
        opening["refused"] = (typed, str(problem))


def _open_run(entry: RunRecord, asked: str) -> None:
    """Make the run's setting this visitor's choice; its model may have to be loaded."""
    now, loaded, opening = choice(), model(), _opening()
    new = replace(restored(entry), tradeoff=now.tradeoff, sweep=now.sweep)  # which may have led here
    if is_foreign(entry):
        take_in(entry)
    if entry.path.parent != runs_root():
        new = replace(new, run="")  # an address names runs of the root only
    if loaded is not None and is_of(entry, loaded):
        new = replace(new, model=now.model, device=now.device, dtype=now.dtype)
        if setting_of(new, loaded) != entry.setting:
            why = f"{entry.name} was made with options that the pages cannot set; use the command line on it."
            opening["refused"] = (asked, why)
            return
    choose(new, lambda: opening.update({"turn": True}))


def open_folder() -> None:
    """The field for the path of a run folder, with its button."""
    with st.expander("Open a run folder from elsewhere"), st.form("run folder", border=False):
        typed = st.text_input("Run folder", placeholder="runs/demo", key="run folder path")
        st.caption(f"Runs of the dashboard are kept in {code(runs_root())}.")
        st.form_submit_button("Open folder", on_click=_open_typed, icon=":material/folder_open:")
        say_refused(typed)
