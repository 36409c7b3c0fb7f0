"""The file of a sweep: how many cells it has, what it will take, how it is started, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pandas as pd
import streamlit as st

from pages.forms.sweep import FILE, command_of, lines_of
from pages.jobs import sweep_job
from pages.state import session
from pages.state.choice import SweepChoice, TradeoffChoice, to_address
from pages.state.clicks import pressed
from pages.state.paths import confined, model_source
from pages.views.boxes import refused, unless_refused
from pages.views.job_progress import result_or_progress, running
from pages.views.labels import seconds_words
from pages.views.render import heading
from qroar_core.errors import QRoarError
from qroar_core.escape import code, literal
from qroar_core.models.text import COLLECTIONS
from qroar_core.number_of import number_of
from qroar_core.setting import Setting
from qroar_core.sweeps import run as sweeps
from qroar_core.sweeps.address import cells_root
from qroar_core.sweeps.estimate import FinishedCell, estimate_of, finished_cells, memory_of
from qroar_core.sweeps.result import DONE
from qroar_core.sweeps.sweep_file import Sweep, sweep_of_text
from qroar_core.sweeps.table import CSV, read_status
from qroar_core.sweeps.write_file import with_exclusions

MOST_WHYS = 5  # lines of failed cells that are shown


def show_sweep(asked: SweepChoice, setting: Setting | None) -> None:
    """Everything below the form; a file that `sweep` would refuse is refused in the same line."""
    try:
        for text in asked.texts or ():  # before the file is read, which looks at them
            if text not in COLLECTIONS:
                confined(text)
        sweep = _sweep(tuple(lines_of(asked, setting).items()), asked.exclude)
        for model in dict.fromkeys(cell.model for cell in sweep.cells):
            model_source(model)
    except QRoarError as problem:
        refused(problem)
        return
    _size(sweep)
    try:
        folder = confined(asked.folder)
    except QRoarError as problem:  # the file is none the worse for it
        refused(problem)
    else:
        _start(sweep, folder)
        _state(sweep, folder)
    _file(sweep, asked)


@lru_cache(maxsize=8)
def _sweep(lines: tuple[tuple[str, str], ...], exclude: str) -> Sweep:
    return with_exclusions(dict(lines), exclude, FILE)


def _size(sweep: Sweep) -> None:
    """Cells, and what they will take as far as that is known."""
    picked, left_out = session.choice(), f" ({sweep.excluded:,} left out)" if sweep.excluded else ""
    st.markdown(f"**{number_of(len(sweep.cells), 'cell')}**{literal(left_out)}. {literal(_takes(sweep))}")
    if memory := _memory(sweep.text, picked.device, picked.dtype):
        most = max(memory.values()) / 2**30
        beside = " beside the model in view" if session.model() is not None else ""
        st.caption(f"Memory: up to {most:.1f} GiB{beside}.")


def _takes(sweep: Sweep) -> str:
    try:
        root = cells_root()
        found = estimate_of(sweep.cells, _finished(root, root.stat().st_mtime_ns if root.exists() else 0))
    except QRoarError:  # a click on the button says it
        return ""
    if not found.cells:
        return "What they will take is not known yet: no cell of such a model is finished here."
    of = "" if found.cells == len(sweep.cells) else f" for {found.cells:,} of them"
    judged = number_of(found.known, "finished cell")
    return (
        f"About {seconds_words(found.seconds)} and {found.disk / 1e6:,.1f} MB on disk{of}, as {judged} of the same "
        "models took; what is finished already costs nothing."
    )


@lru_cache(maxsize=2)
def _finished(root: Path, stamp: int) -> list[FinishedCell]:
    return finished_cells(root)


@lru_cache(maxsize=8)
def _memory(text: str, device: str, dtype: str) -> Mapping[str, int]:
    return memory_of(sweep_of_text(text, FILE).cells, device, dtype)


def _start(sweep: Sweep, folder: Path) -> None:
    """The button, and the progress of what it started."""
    picked = session.choice()
    key = sweep_job.key(sweep, folder, picked)
    if click := pressed(
        "Start the sweep",
        type="primary",
        disabled=running(key),
        icon=":material/play_arrow:",
        help="Finished cells are read, the rest is measured in this process. A sweep that was cancelled goes on.",
    ):
        click.over(redraw=unless_refused(lambda: sweep_job.start(sweep, folder, picked)))
    result_or_progress(key)


def _state(sweep: Sweep, folder: Path) -> None:
    """What the folder's table says, and the way to its figure."""
    path = folder / CSV
    if not path.is_file():
        return
    try:
        rows = _status(path, path.stat().st_mtime_ns)
    except (QRoarError, OSError) as problem:
        refused(problem)
        return
    of = rows["status"].value_counts()
    said = ", ".join(f"{count:,} {status}" for status, count in of.items())
    other = (
        "" if _is_of(sweep, folder) else " It is the table of another file: a start replaces it, and keeps its cells."
    )
    st.markdown(f"In {code(folder)}: {literal(said)}.{literal(other)}")
    whys = rows.loc[rows["why"] != "", "why"].unique()
    for why in whys[:MOST_WHYS]:
        st.warning(literal(why))
    if len(whys) > MOST_WHYS:
        st.caption(f"{number_of(len(whys) - MOST_WHYS, 'other reason')} in the table.")
    if of.get(DONE) and (click := pressed("Show loss against memory", icon=":material/query_stats:")):
        now = session.choice()
        shown = now.tradeoff or TradeoffChoice()
        at = shown.setup if shown.folder == str(folder) else 0
        session.choose(replace(now, tradeoff=replace(shown, folder=str(folder), setup=at)))
        click.over(redraw=False)
        st.switch_page("pages/tradeoff.py", query_params=to_address(session.choice()))


@lru_cache(maxsize=8)
def _status(path: Path, stamp: int) -> pd.DataFrame:
    return read_status(path)


def _is_of(sweep: Sweep, folder: Path) -> bool:
    try:
        return (folder / sweeps.ASKED).read_text() == sweep.text
    except (OSError, ValueError):
        return False


def _file(sweep: Sweep, asked: SweepChoice) -> None:
    """The file, to look at and to take away, and the command that reads it."""
    heading("The file", "file", "box")
    st.code(sweep.text, language="yaml")
    st.download_button(
        f"Download {literal(FILE)}", sweep.text, FILE, "application/yaml", on_click="ignore", icon=":material/download:"
    )
    st.caption("The same from the command line, there also by several workers at a time:")
    st.code(command_of(asked), language="bash", wrap_lines=True)
