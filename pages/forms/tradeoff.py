"""Which sweep the Trade-off page shows, by which loss, and for how many tokens its memory is counted."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import get_args

import streamlit as st

from pages.state.choice import LONGEST, MOST_TEXTS, TradeoffChoice
from pages.state.clicks import carried_out
from pages.state.paths import confined
from pages.state.session import choice, choose
from pages.state.widget_state import chosen, fill, number, one_of
from pages.views.boxes import refused
from pages.views.glossary import term_help
from qroar_core.errors import QRoarError
from qroar_core.library.tradeoff_call import measured
from qroar_core.specs.tradeoff import Axis, Loss
from qroar_core.sweeps.address import cells_root
from qroar_core.sweeps.table import CSV
from qroar_core.tradeoffs.measured import Measured
from qroar_core.tradeoffs.point import SetupKey

LOSS_WORDS: dict[Loss, str] = {"nll": "NLL", "kl": "KL", "needles": "Needles found"}
AXIS_WORDS: dict[Axis, str] = {"bytes": "bytes per token", "gb": "GB"}
REMEMBERED = 8  # folders that were read


def now_shown() -> TradeoffChoice:
    """What this visitor looks at."""
    return choice().tradeoff or TradeoffChoice()


def keep_shown(new: TradeoffChoice, form: str) -> None:
    """Make it this visitor's, in the address too."""
    choose(replace(choice(), tradeoff=None if new == TradeoffChoice() else new), chosen(form, new))


def open_sweep() -> Measured | None:
    """The field for the folder; what was measured there, None where none is opened or it cannot be read."""
    shown = now_shown()
    fill("sweep folder", shown.folder, {"sweep folder path": shown.folder})
    with st.form("sweep folder", border=False):
        row = st.container(horizontal=True, vertical_alignment="bottom")
        row.text_input(
            "Sweep folder",
            placeholder="sweep",
            key="sweep folder path",
            help="What `sweep --out` wrote, or a folder that holds run folders.",
        )
        row.form_submit_button("Open sweep", on_click=_open_typed, icon=":material/folder_open:")
    if not shown.folder:
        st.info("No sweep is opened yet. Name the folder of one, or start one on the Sweep page.")
        return None
    loss = _loss(shown)
    try:
        return measured_in(confined(shown.folder), loss)
    except QRoarError as problem:
        refused(problem)
        return None


@carried_out
def _open_typed() -> None:
    typed = st.session_state["sweep folder path"].strip()
    shown = replace(now_shown(), folder=typed[:1000], setup=0)
    choose(replace(choice(), tradeoff=None if shown == TradeoffChoice() else shown))


def _loss(shown: TradeoffChoice) -> Loss:
    fill("tradeoff loss", shown.loss, {"tradeoff loss": shown.loss})
    loss = one_of("Loss", get_args(Loss), "tradeoff loss", format_func=LOSS_WORDS.__getitem__)
    if loss != shown.loss:
        choose(replace(choice(), tradeoff=replace(shown, loss=loss)), chosen("tradeoff loss", loss))
    return loss


def tradeoff_form(setups: list[SetupKey]) -> TradeoffChoice:
    """Setup, limit, length, texts at once and axis."""
    shown = now_shown()
    at = min(shown.setup, len(setups) - 1)
    usual = setups[at].length
    fill(
        "tradeoff",
        shown,
        {
            "tradeoff setup": at,
            "tradeoff limit": shown.max_loss,
            "tradeoff length": shown.length or usual,
            "tradeoff batch": shown.batch,
            "tradeoff axis": shown.axis,
        },
    )
    if len(setups) > 1:
        at = st.selectbox("Setup", range(len(setups)), key="tradeoff setup", format_func=lambda one: setups[one].words)
    one, two, three, four = st.columns(4)
    help_ = f"The chosen format loses less than this, with the upper end of its interval. {term_help('Interval')}"
    limit = number(one, "Loss that is allowed", 0.0, 100.0, "tradeoff limit", step=0.01, format="%g", help=help_)
    length = number(two, "Context that is served, tokens", 1, LONGEST, "tradeoff length", step=1024)
    batch = number(three, "Texts at once", 1, MOST_TEXTS, "tradeoff batch")
    with four:
        axis = one_of("Memory", get_args(Axis), "tradeoff axis", format_func=AXIS_WORDS.__getitem__)
    other = at != min(shown.setup, len(setups) - 1)
    asked = None if int(length) == usual or (other and shown.length is None) else int(length)
    new = replace(shown, max_loss=float(limit), length=asked, batch=int(batch), axis=axis, setup=at)
    if new != shown:
        keep_shown(new, "tradeoff")
        if other:
            st.rerun()  # another length was measured there
    return new


def measured_in(folder: Path, loss: Loss) -> Measured:
    """The points of this folder, read once as long as it does not change.

    Raises:
        QRoarError: see `library.tradeoff_call.measured`.
    """
    return _measured(folder, loss, _stamp(folder))


@lru_cache(maxsize=REMEMBERED)
def _measured(folder: Path, loss: Loss, stamp: tuple) -> Measured:
    return measured(folder, loss)


def _stamp(folder: Path) -> tuple:
    """What changes with what is measured: the table and the folder of the cells, or every run."""
    paths = [folder / CSV, cells_root()] if (folder / CSV).exists() else sorted(folder.glob("*/manifest.json"))
    return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists())
