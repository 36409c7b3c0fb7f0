"""Apply and Undo on the loaded weights, with the state and the setting it belongs to always said."""

from __future__ import annotations

import streamlit as st

from pages.parts import session
from pages.parts.candidates import HAND, OTHER, name_of
from pages.parts.choice import as_choice
from pages.parts.watch import watch
from pages.parts.words import whole_setting_words
from pages.parts.work import patching
from qroar_core.escape import code, literal
from qroar_core.maths.rescale import Scales
from qroar_core.models.loaded import LoadedModel
from qroar_core.runs.setting import Setting

STARTED = "the change of weights that was asked last"  # session: its key
CLICKED = "a change of weights was asked in this run"


def patch_buttons(loaded: LoadedModel, setting: Setting, scales: Scales | None,
                  offered: dict[str, tuple[Scales, str]]) -> None:  # fmt: skip
    """Both buttons and the state. A change waits its turn like every other job on the device.

    Scales of another setting, a person's in another browser perhaps, are named by it; only there they are undone.

    Args:
        scales: what Apply puts in, or None when nothing is chosen. offered: names what is in.
    """
    if st.session_state.pop(CLICKED, False):
        st.rerun()  # the whole page: its strip and its queue
    under = loaded.applied_under
    mine = under is None or under.belongs_to(setting)
    inside = _name_inside(loaded, offered) if mine else ""
    same = bool(inside) and scales is not None and inside == name_of(scales, offered)
    waiting = patching.changing(loaded)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="patch"):
        _say_state(loaded, inside)
        nothing = scales is None or scales.is_identity
        why = "Every scale is 1: there is nothing to apply." if nothing else "W_Q and W_K times these scales"
        st.button("Apply", disabled=same or nothing or waiting is not None, icon=":material/check:", on_click=_start,
                  args=(loaded, scales, patching.Applied(setting, name_of(scales, offered))),
                  help="These scales are in already." if same else why)  # fmt: skip
        st.button("Undo", disabled=not inside or waiting is not None, icon=":material/undo:", on_click=_start,
                  args=(loaded, None, None, loaded.applied), help="The checkpoint's weights, bit for bit")  # fmt: skip
        if not mine and loaded.applied is not None and st.button("Go to their setting", icon=":material/arrow_forward:",
                                                                 help="They can be undone there"):  # fmt: skip
            session.choose(as_choice(under.setting, session.choice()))
            st.rerun()
    if waiting is not None or STARTED in st.session_state:
        watch(waiting or st.session_state[STARTED])
    if loaded.applied is not None:
        st.caption("Diagnose, Tune and Evaluate always start from the checkpoint's own weights, applied or not.")


def _start(loaded: LoadedModel, scales: Scales | None, applied: patching.Applied | None = None,
           undone: Scales | None = None) -> None:  # fmt: skip
    """Called before the page is drawn again: a button that another's change has disabled since would lose the click."""
    st.session_state[STARTED] = patching.start(loaded, scales, applied, undone)
    st.session_state[CLICKED] = True


def _name_inside(loaded: LoadedModel, offered: dict[str, tuple[Scales, str]]) -> str:
    """What is applied under this setting: as it is offered here, or else as it was when it was applied.

    Scales by hand are nobody's in particular: those of another person, or of before they were moved, are "other".
    """
    one, under = name_of(loaded.applied, offered), loaded.applied_under
    known = under is not None and under.name not in offered and under.name != HAND
    return under.name if one == OTHER and known else one


def _say_state(loaded: LoadedModel, inside: str) -> None:
    name = code(loaded.name)
    if loaded.applied is None:
        st.markdown(f"The weights in memory: **as loaded**, no scales in {name}.")
    elif inside:
        st.markdown(f"The weights in memory: **{literal(inside)} applied** to {name}.")
    else:
        theirs = literal(loaded.applied_under.name)
        words = literal(whole_setting_words(loaded.applied_under.setting))
        st.markdown(f"The weights in memory: **{theirs} of another setting applied** ({words}) to {name}.")
