"""Which files of ours lie between a button and its result: what a maintainer opens to follow one click.

The button is pressed in the dashboard without a browser, on the demo model. A file counts when it stands on the call
stack at one of three moments: a job is queued; the model is run for the first time; the result arrives, that is a file
of it is opened to be written, a file of the checkpoint to be read, or the first figure is built and then shown.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

ROOT = Path(__file__).parents[1]
MINE = (f"{ROOT}/qroar_core/", f"{ROOT}/pages/", f"{ROOT}/app.py")
PATIENCE = 600.0  # seconds for one job
Arrival = Literal["read", "written", "shown"]


@dataclass
class Seen:
    """Files on the stack at the moments that count, while a trace is on."""

    folder: str = ""  # files opened below it count
    arrival: Arrival = "written"
    files: set[str] = field(default_factory=set)
    on: bool = False
    asked: bool = False  # the model has been run
    built: bool = False  # a figure has been
    shown: bool = False

    def note(self, frame: FrameType | None) -> None:
        """Every file of ours from this frame outwards; an import in passing is on nobody's way."""
        while frame is not None:
            name = frame.f_code.co_filename
            page = os.path.dirname(name) == f"{ROOT}/pages" or name == f"{ROOT}/app.py"
            if name.startswith(MINE) and (page or frame.f_code.co_name != "<module>"):
                self.files.add(os.path.relpath(name, ROOT))
            frame = frame.f_back

    def opened(self, event: str, arguments: tuple) -> None:
        """An audit hook."""
        if not self.on or event != "open" or not isinstance(arguments[0], str):
            return
        path, mode, flags = arguments
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else any(c in mode for c in "wax+")
        if self.arrival == ("written" if writes else "read") and path.startswith(self.folder):
            self.note(sys._getframe(1))

    def forward(self, *_: Any) -> None:
        """A module of the model is about to run."""
        if self.on and not self.asked:
            self.asked = True
            self.note(sys._getframe(1))

    def queued(self) -> None:
        """A job is about to be."""
        if self.on:
            self.note(sys._getframe(2))

    def drawn(self, what: Literal["built", "shown"]) -> None:
        """A figure is about to be built or shown; the first one after the model was run counts."""
        if self.on and self.arrival == "shown" and self.asked and not getattr(self, what):
            setattr(self, what, True)
            self.note(sys._getframe(2))


SEEN = Seen()


@dataclass(frozen=True)
class Trace:
    """One of the five ways that the layout is judged by, and how many files it may take."""

    name: str
    most: int
    page: str
    button: str
    arrival: Arrival = "written"


TRACES = (
    Trace("Demo model", 9, "start", "Demo model", "read"),
    Trace("Noise, diagnosed", 8, "noise", "Diagnose", "shown"),
    Trace("Start the search, to scales on disk", 14, "tune", "Start the search"),
    Trace("Run the comparison", 13, "remedies", "Run the comparison"),
    Trace("Write the checkpoint", 10, "export", "Write the checkpoint"),
)


def traced() -> dict[str, list[str]]:
    """Files of every trace by its name, sorted."""
    with tempfile.TemporaryDirectory() as folder, _watched():
        os.environ["QROAR_RUNS"] = f"{folder}/runs"
        app = _visitor()
        found = {}
        for trace in TRACES:
            SEEN.folder, SEEN.arrival = f"{ROOT}/assets/demo/" if trace.arrival == "read" else folder, trace.arrival
            if trace.page != "start":
                _small(app)
                app.switch_page(f"pages/{trace.page}.py").run()
            if trace.page == "export":
                next(box for box in app.text_input if box.key == "folder").set_value(f"{folder}/checkpoint")
            found[trace.name] = _pressed(app, trace.button)
    return found


def _visitor() -> Any:
    from streamlit.testing.v1 import AppTest

    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()


def _small(app: Any) -> None:
    """A setting that costs little: which files are on the way does not depend on how long it is."""
    from pages.state import session
    from pages.state.choice import setting_of

    choice = app.session_state["choice"]
    setting = setting_of(choice, session.manager().result(session.load_key(choice)))
    app.session_state["choice"] = replace(
        choice,
        length=256,
        search=replace(setting.search, length=256, steps=4, windows=1),
        diagnosis=replace(setting.diagnosis, length=512, short_length=128, windows=2),
        evaluation=replace(setting.evaluation, lengths=(256,), windows=2),
    )


def _pressed(app: Any, label: str) -> list[str]:
    """The files on the way from this button to what it makes."""
    from pages.state.session import manager

    SEEN.files, SEEN.asked, SEEN.on = set(), False, True
    SEEN.built = SEEN.shown = False
    next(button for button in app.button if button.label == label).click().run()
    end = time.monotonic() + PATIENCE
    while not manager().idle() and time.monotonic() < end:
        time.sleep(0.05)
    app.run()
    SEEN.on = False
    assert not app.exception, [problem.value for problem in app.exception]
    assert manager().idle(), f"{label}: still running after {PATIENCE:.0f} s"
    return sorted(SEEN.files)


@contextmanager
def _watched() -> Iterator[None]:
    """Jobs, the model and figures report to SEEN meanwhile. The audit hook stays, as hooks do, and is idle then."""
    import plotly.graph_objects as go
    import streamlit as st
    from torch.nn.modules.module import register_module_forward_pre_hook

    from qroar_core.jobs import Manager

    def before(call: Callable, note: Callable[[], None]) -> Callable:
        def noted(*args: Any, **kwargs: Any) -> Any:
            note()
            return call(*args, **kwargs)

        return noted

    calls = (
        (Manager, "submit", SEEN.queued),
        (go.Figure, "__init__", lambda: SEEN.drawn("built")),
        (st, "plotly_chart", lambda: SEEN.drawn("shown")),
    )
    known = [(where, name, getattr(where, name)) for where, name, _ in calls]
    for where, name, note in calls:
        setattr(where, name, before(getattr(where, name), note))
    handle = register_module_forward_pre_hook(SEEN.forward)
    sys.addaudithook(SEEN.opened)
    try:
        yield
    finally:
        handle.remove()
        for where, name, call in known:
            setattr(where, name, call)
