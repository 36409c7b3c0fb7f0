"""Ends a run of a page in the middle, as the browser's next message does, in every state that it goes through."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

from pages.state.session import BEGAN, manager
from qroar_core.jobs import Manager
from tests.pages.visitor import PATIENCE

ROOT = Path(__file__).parents[2]
OURS = (f"{ROOT}/pages/", f"{ROOT}/app.py")


class Ending:
    """While it is patched in: notes the line of every state in which a run may end, and ends one run in one of them.

    Streamlit may end a run wherever our code calls it or touches the session. Between two such points that find the
    same kept in the session and as many jobs queued nothing was written: the next run starts anew from the same.
    """

    def __init__(self, patch: pytest.MonkeyPatch, at: int = -1, typed: Mapping[str, float] = {}) -> None:
        """
        Args:
            at: which state ends its run, late: what the run has started is over by then. -1: none.
            typed: what the message says that number fields of these keys were changed to.
        """
        self.states, self.over, self._typed = list[str](), "", typed
        may_end, run, submit = (
            ScriptRunner._maybe_handle_execution_control_request,
            ScriptRunner._run_script,
            Manager.submit,
        )
        queued, before = [0], [("", 0)]

        def noted(runner: ScriptRunner, sent: RerunData) -> None:
            self._sent = sent
            run(runner, sent)

        def counted(jobs: Manager, *args: Any, **options: Any) -> Any:
            made = submit(jobs, *args, **options)
            queued[0] += 1
            return made

        def touched(runner: ScriptRunner) -> None:
            if runner._execing and runner._is_in_script_thread() and not self.over and (line := _line()):
                now = (_kept(runner), queued[0])
                if now != before[0]:
                    before[0] = now
                    self.states.append(line)
                    if len(self.states) - 1 == at:
                        self.over = line
                        _wait_for_jobs()
                        runner._requests.request_rerun(self._message())
            may_end(runner)

        patch.setattr(Manager, "submit", counted)
        patch.setattr(ScriptRunner, "_run_script", noted)
        patch.setattr(ScriptRunner, "_maybe_handle_execution_control_request", touched)

    def _message(self) -> RerunData:
        """What the browser sends next: the fields as it knows them, what was typed since, and no click."""
        states = WidgetStates()
        for known in self._sent.widget_states.widgets if self._sent.widget_states is not None else ():
            if known.WhichOneof("value") == "trigger_value":
                continue
            state = states.widgets.add()
            state.CopyFrom(known)
            for key, value in self._typed.items():
                if known.id.endswith(f"-{key}"):
                    state.double_value = value
        page = get_script_run_ctx().page_script_hash
        return RerunData(widget_states=states, page_script_hash=page, query_string=self._sent.query_string)


def _wait_for_jobs() -> None:
    end = time.monotonic() + PATIENCE
    while not manager().idle() and time.monotonic() < end:
        time.sleep(0.01)


def _kept(runner: ScriptRunner) -> str:
    """What the session holds beside the widgets."""
    held = runner._session_state._state.filtered_state
    return repr({key: value for key, value in held.items() if key != BEGAN})


def _line() -> str:
    """The innermost line of ours that runs now; empty for none: what Streamlit does before a run is its own."""
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename.removeprefix(f'{ROOT}/')}:{frame.f_lineno}"


def as_served(patch: pytest.MonkeyPatch) -> None:
    """AppTest takes pages/ for Streamlit's old way of many pages and runs a page without app.py; a server does not."""
    begin = PagesManager.__init__

    def made(self: PagesManager, *args: object, **options: object) -> None:
        begin(self, *args, **options)
        PagesManager.uses_pages_directory = False

    patch.setattr(PagesManager, "__init__", made)
