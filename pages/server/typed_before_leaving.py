"""What was typed on a page is taken before the next page opens.

The browser sends a field when it is left: often by the press of the mouse on a link to another page, 20 to 100 ms
before the click that opens it. Streamlit 1.67 lets the second message end the run of the first, or merges the two while
both wait, and forgets the widgets of the page that is left: what was typed would be lost without a word. Here a message
that opens another page waits for the run that a message of this page has started.
"""

from __future__ import annotations

import threading

from streamlit.runtime.scriptrunner import script_runner
from streamlit.runtime.scriptrunner_utils.script_requests import (
    RerunData,
    ScriptRequest,
    ScriptRequests,
    ScriptRequestType,
)


class InOrder(ScriptRequests):
    """The messages of one visitor, of which one that opens another page overtakes none that brings values."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()  # type: ignore[assignment]  # held over two steps of Streamlit's own
        self._under_way = RerunData()  # what the run brings that is under way
        self._next_page: RerunData | None = None

    def _request_rerun_locked(self, new_data: RerunData) -> bool:
        """Fold one message in. The caller holds the lock, as in Streamlit's own."""
        first = self._rerun_data if self._state is ScriptRequestType.RERUN else self._under_way
        leaves = new_data.page_script_hash not in ("", first.page_script_hash)
        if self._state is not ScriptRequestType.STOP and leaves and (self._next_page is not None or _brings(first)):
            if not (new_data.fragment_id or new_data.fragment_id_queue):  # else a timer of the page that is left
                self._next_page = new_data
            return True
        return super()._request_rerun_locked(new_data)

    def on_scriptrunner_yield(self) -> ScriptRequest | None:
        """At a point where a run may be ended: the message that ends it, or None."""
        asked = super().on_scriptrunner_yield()
        self._noted(asked)
        return asked

    def on_scriptrunner_ready(self) -> ScriptRequest:
        """Between two runs: the next message, the other page last."""
        with self._lock:
            if self._state is ScriptRequestType.CONTINUE and self._next_page is not None:
                waiting, self._next_page = self._next_page, None
                super()._request_rerun_locked(waiting)
            asked = super().on_scriptrunner_ready()
            self._noted(asked)
            return asked

    def _noted(self, asked: ScriptRequest | None) -> None:
        if asked is not None and asked.type is ScriptRequestType.RERUN:
            self._under_way = asked.rerun_data


def keep_order() -> None:
    """Let every visitor who comes from now on have messages `InOrder`; another Streamlit keeps its own way."""
    if hasattr(ScriptRequests, "_request_rerun_locked"):
        script_runner.ScriptRequests = InOrder  # type: ignore[misc]


def _brings(message: RerunData) -> bool:
    """Does it bring values of a page? A timer brings none, and one that opens a page has none of that page yet."""
    return bool(message.page_script_hash and message.widget_states and message.widget_states.widgets) and (
        not message.is_auto_rerun
    )
