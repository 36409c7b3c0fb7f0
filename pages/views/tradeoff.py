"""The trade-off of an opened sweep: the sentence, the figure, and the run and the commands behind one of its points."""

from __future__ import annotations

from functools import lru_cache, partial

import streamlit as st

from pages.forms.open_run import open_path, say_refused
from pages.forms.tradeoff import tradeoff_form
from pages.state import selection
from pages.views.boxes import finding
from pages.views.render import heading, picture
from qroar_core.errors import QRoarError
from qroar_core.escape import literal
from qroar_core.figures import Picture
from qroar_core.specs.labels import capital
from qroar_core.specs.tradeoff import Axis
from qroar_core.tradeoffs.choice import lost, memory
from qroar_core.tradeoffs.measured import Measured
from qroar_core.tradeoffs.point import Point
from qroar_core.tradeoffs.result import Tradeoff
from qroar_core.tradeoffs.serving import serving_of
from qroar_core.tradeoffs.setup_tradeoff import SetupTradeoff
from qroar_core.tradeoffs.table import roles

REMEMBERED = 16  # choices among the points of a folder, and their figures
POINT = "tradeoff point"


def show_tradeoff(found: Measured) -> None:
    """Everything of one setup of what was measured."""
    if not found.points:
        st.info("No cell of this sweep is finished yet. The table fills while it runs.")
        _notes(found.notes)
        return
    asked = tradeoff_form(list(found.points))
    result = _tradeoff(found, asked.max_loss, asked.length, asked.batch)
    one = result.setups[min(asked.setup, len(result.setups) - 1)]
    first, *rest = one.sentences
    chosen = one.choice.point
    finding(chosen is not None and chosen.quantized, f"{first}.")
    for said in rest:
        st.markdown(f"- {literal(said)}.")
    of = (found.where, one.key, found.loss)
    start = one.points.index(chosen) if chosen is not None else 0
    selection.keep("tradeoff picked", of, {POINT: start})
    picture(
        _picture(one, asked.axis),
        "tradeoff",
        on_select=selection.on_click("tradeoff", lambda data: {POINT: data[0]}),
        selection_mode="points",
    )
    _point(one, of)
    _notes(result.notes)


@lru_cache(maxsize=REMEMBERED)
def _tradeoff(found: Measured, max_loss: float, length: int | None, batch: int) -> Tradeoff:
    return Tradeoff.of(found, max_loss, length, batch)


@lru_cache(maxsize=REMEMBERED)
def _picture(one: SetupTradeoff, axis: Axis) -> Picture:
    return one.picture(axis)


def _point(one: SetupTradeoff, of: tuple) -> None:
    """One point, clicked in the figure or taken from the menu: its numbers, its run, and how it is served."""
    heading("One format", "one-format", "box")
    points = one.points
    at = st.selectbox(
        "Format", range(len(points)), key=POINT, format_func=lambda i: points[i].name, help="Or click its mark above."
    )
    selection.remember("tradeoff picked", of, POINT)
    point = points[at]
    (role,) = roles([point], one.steps, one.choice)
    said = f"{lost(point)}, at {memory(point, one.length, one.batch)}"
    st.markdown(f"**{literal(point.name)}**: {literal(said)}{literal(f'. {capital(role)}') if role else ''}.")
    if point.run is None:
        st.caption("Its run folder is not on this machine.")
    else:
        st.button(
            "Open its run",
            key="open run of point",
            on_click=partial(open_path, str(point.run)),
            icon=":material/history:",
        )
        say_refused(str(point.run))
    _serving(point, one.length)


def _serving(point: Point, length: int) -> None:
    """The command that writes its checkpoint, and every runtime's."""
    try:
        serving = serving_of(point, length)
    except QRoarError as problem:
        st.caption(f"How it is served is not known here: {literal(problem)}.")
        return
    if serving.export:
        st.code(serving.export, language="bash", wrap_lines=True)
    for note in serving.notes:
        st.caption(f"{literal(note)}.")
    if serving.rope_file:
        st.download_button("Download rope.json", serving.rope_file, "rope.json", on_click="ignore")
    known = serving.recipes
    for tab, recipe in zip(st.tabs([literal(name) for name in known]), known.values(), strict=True):
        tab.code(recipe.code, language=recipe.language, wrap_lines=True)
        tab.caption("  \n".join(literal(note) for note in recipe.notes))


def _notes(notes: list[str] | tuple[str, ...]) -> None:
    for note in notes:
        st.caption(f"{literal(note)}.")
