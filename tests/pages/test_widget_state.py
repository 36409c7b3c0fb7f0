"""Filling widgets: told again as long as the browser may have missed it, never over what a person typed."""

from types import SimpleNamespace

import pytest

from pages.state import widget_state


class Session(dict):
    """A session that notes what is set: what Streamlit would tell the browser."""

    def __init__(self):
        super().__init__()
        self.told = []

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.told.append((key, value))


@pytest.fixture
def session(monkeypatch):
    held = Session()
    monkeypatch.setattr(widget_state, "st", SimpleNamespace(session_state=held))
    monkeypatch.setattr(widget_state, "time", SimpleNamespace(monotonic=lambda: held.get("clock", 100.0)))
    return held


def told(session, value=8):
    """Does a run tell the browser the number of bands?"""
    session.told.clear()
    widget_state.fill("bands", "spec", {"bands": value})
    return ("bands", value) in session.told


def test_a_run_that_never_ended_is_told_again_whatever_the_browser_sent(session):
    assert told(session)
    session["bands"] = 1  # the browser's default, sent before it heard of 8
    assert told(session)
    assert session["bands"] == 8


def test_a_drawn_page_whose_message_may_be_lost_is_told_again_for_two_seconds(session):
    assert told(session)
    widget_state.delivered()
    session["clock"] = 101.0
    assert told(session)
    widget_state.delivered()
    session["clock"] = 102.5
    assert told(session)  # the run that finds the time over still tells it
    widget_state.delivered()
    assert not told(session)


def test_what_a_person_typed_after_the_page_was_drawn_stays(session):
    assert told(session)
    widget_state.delivered()
    session["bands"] = 9
    assert not told(session)
    assert session["bands"] == 9
    session["bands"] = 8  # back again by hand
    assert not told(session)
