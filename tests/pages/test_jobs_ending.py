"""A job that ends while a page is being drawn: nothing above may go on showing what was before its end."""

import threading
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.state.choice import Choice
from pages.state.session import manager
from pages.views import status_bar
from qroar_core.jobs import Manager
from qroar_core.setting import default_setting


@pytest.fixture
def gate(stages):
    """Set it, and the job ends."""
    return threading.Event()


def start(gate, ends):
    """A job on the processor that waits for the gate, then calls `ends`."""

    def stage(on_step):
        assert gate.wait(20)
        return ends()

    manager().submit("key", stage, label="Change", device="cpu")


def end_of(gate):
    gate.set()
    while not manager().idle():
        pass


def watching():
    import time

    import streamlit as st

    from pages.state.session import BEGAN, manager
    from pages.views.job_progress import result_or_progress

    st.session_state[BEGAN] = time.monotonic()
    st.session_state["runs"] = st.session_state.get("runs", 0) + 1
    st.text(f"above: {manager().result('key')}")
    st.session_state["meanwhile"]()
    st.text(f"below: {result_or_progress('key')}")


def test_what_stands_above_a_watched_job_is_drawn_again_after_its_end(gate):
    start(gate, lambda: 7)
    page = AppTest.from_function(watching)
    page.session_state["meanwhile"] = lambda: end_of(gate)
    page.run()
    assert not page.exception
    assert [text.value for text in page.text] == ["above: 7", "below: 7"]
    assert page.session_state["runs"] == 2
    page.run()
    assert page.session_state["runs"] == 3  # an end of long ago asks for nothing


def test_a_result_from_the_store_is_drawn_in_one_run(stages, monkeypatch):
    monkeypatch.setattr(manager(), "_store", lambda key: 7 if key == "key" else None)
    page = AppTest.from_function(watching)
    page.session_state["meanwhile"] = lambda: None
    page.run()
    assert [text.value for text in page.text] == ["above: 7", "below: 7"]
    assert page.session_state["runs"] == 1


def stripped():
    import streamlit as st

    from pages.views.job_queue import job_queue
    from pages.views.status_bar import status_bar

    st.session_state["entered"] = True
    job_queue()
    status_bar(st.session_state["loaded"], st.session_state["setting"])


def test_the_strip_says_applied_where_the_change_ended_right_after_it_looked(gate, monkeypatch, demo_model):
    setting, badge, said = default_setting(demo_model), st.badge, []
    own = {name: getattr(demo_model, name) for name in ("family", "model", "geometry")}
    loaded = SimpleNamespace(
        name="demo", device="cpu", applied=None, applied_under=None, files_changed=lambda: False, **own
    )
    start(gate, lambda: setattr(loaded, "applied", "scales"))

    def slow(words, **look):
        said.append(words)
        if words == "weights as loaded":
            end_of(gate)
        return badge(words, **look)

    monkeypatch.setattr(status_bar, "verdict_for", lambda *_: SimpleNamespace(acts="yes"))
    monkeypatch.setattr(st, "badge", slow)
    monkeypatch.setattr(st, "page_link", lambda *a, **kw: None)
    page = AppTest.from_function(stripped)
    page.session_state["loaded"], page.session_state["setting"] = loaded, setting
    page.session_state["choice"] = Choice(model="demo")
    page.run()
    assert not page.exception, [e.value for e in page.exception]
    assert "1 job" in page.sidebar.markdown[0].value  # seen before the badge: it looks again, and then runs the page
    page.run()
    assert [words for words in said if words in ("weights as loaded", "scales applied")] == [
        "weights as loaded",
        "scales applied",
    ]


def test_a_device_is_idle_when_nothing_runs_or_waits_there():
    free, jobs = threading.Event(), Manager()
    jobs.submit("running", lambda on_step: free.wait(20), label="First", device="cpu")
    jobs.submit("queued", lambda on_step: None, label="Second", device="cpu")
    assert not jobs.idle("cpu")
    assert jobs.idle("cuda:0")
    assert not jobs.idle()
    free.set()
