"""Callbacks that the browser's next message ends: what they were called for is done, and the message counts too."""

import tomllib
from pathlib import Path

import pytest
from streamlit.runtime.scriptrunner import RerunException
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

from pages.state.clicks import carried_out


def test_a_callback_that_is_overtaken_is_carried_out_and_the_message_is_passed_on():
    messages, done = [RerunData(page_name="first"), RerunData(page_name="second")], []

    @carried_out
    def callback(value):
        if messages:
            raise RerunException(messages.pop(0))
        done.append(value)

    with pytest.raises(RerunException) as asked:
        callback(7)
    assert done == [7]
    assert asked.value.rerun_data.page_name == "second"


def test_a_callback_that_nothing_overtakes_asks_for_nothing():
    done = []
    carried_out(done.append)(7)
    assert done == [7]


def test_a_message_waits_for_a_run_to_come_to_a_point_where_it_may_end():
    """With Streamlit's fast reruns it ends the run before its callbacks: the click of that run is never noted."""
    config = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text())
    assert config["runner"]["fastReruns"] is False
