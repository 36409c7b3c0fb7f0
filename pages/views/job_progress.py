"""Watch a background job: its progress with Cancel while it runs, its result once it is there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

import streamlit as st

from pages.jobs import Stage
from pages.state.clicks import pressed
from pages.state.foreign_runs import marked, source_of
from pages.state.session import BEGAN, manager
from pages.views.boxes import refused
from pages.views.labels import progress_words
from qroar_core.escape import literal
from qroar_core.job import JobKey
from qroar_core.models.loaded import LoadedModel
from qroar_core.setting import Setting

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
POLL, DRAWING = 0.25, 1  # seconds between looks at a running job, and at one whose steps are drawn


def result_or_progress(key: JobKey[Found], live: Callable[[tuple], None] | None = None) -> Found | None:
    """The finished job's result, else None.

    While the job is queued or running this draws its progress, a Cancel button and `live(details)`, and
    looks again by itself until the job ends; then the whole page runs once more. So it does where the job ended
    while this run was drawing: what stands above was drawn before the end. A failure is one line.
    """
    now = manager().snapshot(key)
    if now is None:
        return marked(key)
    if now.active:
        st.fragment(_progress, run_every=POLL if live is None else DRAWING)(key, live)
    elif now.ended > st.session_state.get(BEGAN, math.inf):
        st.session_state[BEGAN] = time.monotonic()  # also where a page is run without app.py
        st.rerun()
    elif now.state == "failed":
        refused(now.error)
    elif now.state == "cancelled":
        st.info(f"{literal(now.label)}: cancelled. Nothing half-done was kept; start again whenever you like.")
    elif now.warning:
        st.warning(literal(now.warning), icon=":material/save:")
    return marked(key)


def start_button(
    label: str,
    stage: Stage[Asked, Found],
    loaded: LoadedModel,
    setting: Setting,
    *asked: Asked.args,
    **named: Asked.kwargs,
) -> JobKey[Found]:
    """The button that starts a stage, disabled while it is queued or running; the key of its job."""
    key = stage.key(loaded, setting, *asked, **named)
    if click := pressed(label, type="primary", disabled=running(key), icon=":material/play_arrow:"):
        stage.start(loaded, setting, *asked, **named)
        click.over()
    return key


def start_once(label: str, stage: Stage[[], Found], loaded: LoadedModel, setting: Setting, *, primary: bool) -> None:
    """The same for a stage whose result, once it was computed here, another start would only repeat.

    Args:
        primary: this is what to do next on the page.
    """
    key = stage.key(loaded, setting)
    done = stage.result(loaded, setting) is not None and source_of(key) is None
    if click := pressed(
        label,
        type="primary" if primary else "secondary",
        disabled=done or running(key),
        icon=":material/play_arrow:",
        help="Done already under this setup; another setup or other options make another." if done else None,
    ):
        stage.start(loaded, setting)
        click.over()


def running(key: Hashable) -> bool:
    """Is this job queued or running?"""
    now = manager().snapshot(key)
    return now is not None and now.active


def _progress(key: Hashable, live: Callable[[tuple], None] | None) -> None:
    now = manager().snapshot(key)
    if now is None or not now.active:
        st.rerun()
    bar, stop = st.columns([6, 1], vertical_alignment="center")
    bar.progress(now.step.fraction if now.step else 0.0, text=literal(progress_words(now)))
    stop.button(
        "Cancel",
        key=f"cancel {now.label}",
        on_click=manager().cancel,
        args=(key,),
        disabled=now.cancelling,
        width="stretch",
    )
    if live is not None and now.details:
        live(now.details)
