"""Apply and Undo on the loaded weights, with the state and the setting it belongs to always said."""

from __future__ import annotations

from typing import TypedDict

import streamlit as st

from pages import jobs
from pages.jobs import applied_scales
from pages.jobs.applied_scales import ScalesOrigin
from pages.state import session
from pages.state.candidates import HAND, OTHER, name_of
from pages.state.choice import as_choice
from pages.state.clicks import carried_out
from pages.state.foreign_runs import answered
from pages.views.job_progress import result_or_progress
from pages.views.labels import whole_setting_words
from qroar_core.escape import code, literal
from qroar_core.job import JobKey
from qroar_core.models.loaded import LoadedModel
from qroar_core.setting import Setting
from qroar_core.transforms.scales import Scales

LAST_WEIGHT_CHANGE = "the change of weights that was asked last"  # session: an AskedChange


class AskedChange(TypedDict, total=False):
    """In a dict of its own, so that no run and no callback is ended between the start of a change and its note."""

    key: JobKey[None]
    now: bool  # asked in this run


def patch_buttons(
    loaded: LoadedModel, setting: Setting, scales: Scales | None, offered: dict[str, tuple[Scales, str]]
) -> None:
    """Both buttons and the state. A change waits its turn like every other job on the device.

    Scales of another setting, a person's in another browser perhaps, are named by it; only there they are undone.

    Args:
        scales: what Apply puts in, or None when nothing is chosen. offered: names what is in.
    """
    asked = _asked_change()
    if asked.pop("now", False):
        st.rerun()  # the whole page: its status bar and its queue
    under = loaded.applied_under
    mine = under is None or under.belongs_to(setting)
    inside = _name_inside(loaded, offered) if mine else ""
    same = bool(inside) and scales is not None and inside == name_of(scales, offered)
    waiting = applied_scales.changing(loaded)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="patch"):
        _say_state(loaded, inside)
        nothing = scales is None or scales.is_identity
        why = "Every scale is 1: there is nothing to apply." if nothing else "W_Q and W_K times these scales"
        st.button(
            "Apply",
            disabled=same or nothing or waiting is not None,
            icon=":material/check:",
            on_click=_start,
            args=(loaded, scales, ScalesOrigin(setting, name_of(scales, offered), _folder(loaded, setting, scales))),
            help="These scales are in already." if same else why,
        )
        st.button(
            "Undo",
            disabled=not inside or waiting is not None,
            icon=":material/undo:",
            on_click=_start,
            args=(loaded, None, None, loaded.applied),
            help="The checkpoint's weights, bit for bit",
        )
        if not mine and loaded.applied is not None:
            st.button(
                "Go to their setup",
                on_click=_go_to,
                args=(under.setting,),
                icon=":material/arrow_forward:",
                help="They can be undone there",
            )
    if waiting is not None or "key" in asked:
        result_or_progress(waiting or asked["key"])
    if loaded.applied is not None:
        st.caption("Diagnose, Tune and Evaluate always start from the checkpoint's own weights, applied or not.")


@carried_out
def _start(
    loaded: LoadedModel,
    scales: Scales | None,
    applied: ScalesOrigin | None = None,
    undone: Scales | None = None,
) -> None:
    """Called before the page is drawn again: a button that another's change has disabled since would lose the click."""
    asked = _asked_change()
    asked["key"], asked["now"] = applied_scales.start(loaded, scales, applied, undone), True


@carried_out
def _go_to(setting: Setting) -> None:
    session.choose(as_choice(setting, session.choice()))
    _asked_change()["now"] = True


def _asked_change() -> AskedChange:
    asked: AskedChange = st.session_state.setdefault(LAST_WEIGHT_CHANGE, {})
    return asked


def _folder(loaded: LoadedModel, setting: Setting, scales: Scales | None) -> str:
    """The run folder from elsewhere whose scales these are; empty where they were made here."""
    outcome, entry = answered(jobs.search.key(loaded, setting))
    held = () if outcome is None else (outcome.found, outcome.smooth, outcome.mad)
    return str(entry.path) if entry is not None and any(scales is one for one in held) else ""


def _name_inside(loaded: LoadedModel, offered: dict[str, tuple[Scales, str]]) -> str:
    """What is applied under this setting: as it is offered here, or else as it was when it was applied.

    Scales by hand are nobody's in particular: those of another person, or of before they were moved, are "other".
    """
    one, under = name_of(loaded.applied, offered), loaded.applied_under
    known = under is not None and under.name not in offered and under.name != HAND
    return under.name if one == OTHER and known else one


def _say_state(loaded: LoadedModel, inside: str) -> None:
    name = code(loaded.name)
    under = loaded.applied_under
    origin = f": {literal(under.origin)}" if under is not None and under.name != HAND else ""
    if loaded.applied is None:
        st.markdown(f"The weights in memory: **as loaded**, no scales in {name}.")
    elif inside:
        st.markdown(f"The weights in memory: **{literal(inside)} applied** to {name}{origin}.")
    else:
        words = literal(whole_setting_words(under.setting))
        theirs = f"**{literal(under.name)} of another setup applied** ({words})"
        st.markdown(f"The weights in memory: {theirs} to {name}{origin}.")
