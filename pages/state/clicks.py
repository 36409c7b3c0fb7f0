"""Buttons whose click outlives the run of the page that it asked for.

Streamlit says that a button was clicked in the run that the click starts, and in no other: where the browser's next
message, of a second click or of a field left behind, ends that run before it comes to the button, the click is lost.
A callback runs before the run does. It notes the click, and the run that comes to the button acts on it. Streamlit
ends a run, and a callback too, wherever it touches the session: so the callback writes into a dict it was handed, and
a callback that needs the session is `carried_out`. Both rest on `fastReruns = false` in .streamlit/config.toml:
messages that come at once are then one run, and what ends a callback is a rerun that can be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException, get_script_run_ctx

from qroar_core.escape import literal

PRESSED = "buttons that were clicked"  # session: key -> (page, label)
LEFT = "clicks that came to nothing"  # session: label -> the page that says so


@dataclass(frozen=True, slots=True)
class Click:
    """A click that a run of its page has come to."""

    noted: dict[str, tuple[str, str]]
    key: str

    def over(self, redraw: bool = True) -> None:
        """What it asked for is done: forget it, and draw the page anew.

        Args:
            redraw: False where it was refused; who refused it says why.
        """
        self.noted.pop(self.key, None)
        if redraw:
            st.rerun()


def pressed(label: str, key: str = "", button: Callable[..., Any] | None = None, **rest: Any) -> Click | None:
    """Draw a button; the click, where there was one. Do what it asks for, then say that it is `over`.

    Streamlit may end a run wherever it touches the session, and the next run then finds the click here again, until it
    is over. What cannot be done twice, such as queueing a job, which may be over by then, comes last, behind every
    touch.

    Args:
        key: of the button, or else its label: what else is said of it may change under a click.
        button: draws it; `st.button` if None.
    """
    key = key or label
    noted = st.session_state.setdefault(PRESSED, {})
    (button or st.button)(label, key=key, on_click=noted.__setitem__, args=(key, (_page(), label)), **rest)
    return Click(noted, key) if key in noted else None


def carried_out(callback: Callable[..., None]) -> Callable[..., None]:
    """A callback that is carried out also where the browser's next message would end it.

    Streamlit raises that message's rerun where the callback touches the session, and takes the callback for done. Here
    it is called again, and must bear that, and the rerun is asked for behind it.
    """

    @wraps(callback)
    def to_its_end(*args: Any) -> None:
        asked: RerunException | None = None
        while True:
            try:
                callback(*args)
                break
            except RerunException as overtaken:
                asked = overtaken
        if asked is not None:
            raise asked

    return to_its_end


def left_behind() -> None:
    """Say which clicks came to nothing because their page was left before a run of it came to the button."""
    here, noted, left = _page(), st.session_state.get(PRESSED, {}), st.session_state.setdefault(LEFT, {})
    for label in [label for label, page in left.items() if page != here]:
        del left[label]
    for key in [key for key, (page, _) in noted.items() if page != here]:
        left[noted.pop(key)[1]] = here
    for label in left:  # by every run of this page: one alone may end before it is seen
        st.warning(f"“{literal(label)}” was clicked, but its page was left before it began: nothing was started.")


def _page() -> str:
    context = get_script_run_ctx()
    return context.page_script_hash if context is not None else ""
