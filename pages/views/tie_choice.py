"""Tied pairs chosen on the model: queued, shown with cost and gain of every group, and taken into the setting."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from pages.jobs.ties import choose_ties as choosing
from pages.state import session
from pages.state.clicks import pressed
from pages.views.boxes import finding
from pages.views.job_progress import result_or_progress, running
from pages.views.render import folded, picture
from qroar_core.escape import literal
from qroar_core.models.loaded import LoadedModel
from qroar_core.scale_search import choose_ties, figure_ties
from qroar_core.scale_search.result_ties import TieChoice
from qroar_core.setting import Setting
from qroar_core.specs.labels import capital


def tie_choice(loaded: LoadedModel, setting: Setting) -> None:
    """Behind one line: the button, what came out, and the button that takes it."""
    with folded("Tie neighbouring pairs, so that maps may mix them: which pairs, at what cost") as opened:
        if opened:
            _asked(loaded, setting)


def _asked(loaded: LoadedModel, setting: Setting) -> None:
    untied = replace(setting, rope=replace(setting.rope, tie=()))
    if why := choose_ties.why_not(loaded, untied):
        st.info(f"{literal(capital(why))}.")
        return
    key = choosing.key(loaded, untied)
    if click := pressed(
        "Choose tied pairs",
        icon=":material/link:",
        disabled=running(key) or choosing.result(loaded, untied) is not None,
        help="Compares groups of slow pairs on calibration text, then measures what the choice costs on development "
        "text at a short, the native and the full length.",
    ):
        choosing.start(loaded, untied)
        click.over()
    choice = result_or_progress(key)
    if choice is not None:
        _shown(choice, setting)


def _shown(choice: TieChoice, setting: Setting) -> None:
    finding(bool(choice.groups) or None, f"{capital(choice.sentence)}.")
    if choice.groups:
        if click := pressed(
            "Use these tied pairs",
            icon=":material/check:",
            disabled=setting.rope.tie == choice.tie and setting.search.maps,
            help="Puts them into the setup, with pair angles and maps searched. They can be edited as Tied pairs on "
            "the Start page.",
        ):
            search = replace(setting.search, angles=True, maps=True)
            session.choose(replace(session.choice(), rope=replace(setting.rope, tie=choice.tie), search=search))
            click.over()
        st.dataframe(figure_ties.costs(choice), hide_index=True, key="tie costs")
        st.caption("NLL under the tie minus NLL without it, nothing quantized, nats per token on development text.")
    picture(figure_ties.groups(choice), "tied-groups")
    picture(figure_ties.tried(choice), "tried-ties")
