"""A message that opens another page waits for what the page before it has sent."""

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests, ScriptRequestType

from pages.server.typed_before_leaving import InOrder


def message(page, value="", **rest):
    states = WidgetStates()
    if value:
        states.widgets.add(id="tied pairs", string_value=value)
    return RerunData(page_script_hash=page, widget_states=states, **rest)


def seen(request):
    """The page of a request, and the values that it brings."""
    if request is None or request.type is ScriptRequestType.STOP:
        return None
    return request.rerun_data.page_script_hash, [w.string_value for w in request.rerun_data.widget_states.widgets]


def test_two_that_wait_are_run_one_by_one():
    requests = InOrder()
    assert requests.request_rerun(message("start", "8-9"))
    assert requests.request_rerun(message("tune"))
    assert seen(requests.on_scriptrunner_ready()) == ("start", ["8-9"])
    assert requests.on_scriptrunner_yield() is None
    assert seen(requests.on_scriptrunner_ready()) == ("tune", [])
    assert seen(requests.on_scriptrunner_ready()) is None


def test_streamlit_itself_loses_the_value():
    """Else this module is not needed any more."""
    requests = ScriptRequests()
    requests.request_rerun(message("start", "8-9"))
    requests.request_rerun(message("tune"))
    assert seen(requests.on_scriptrunner_ready()) == ("tune", [])


def test_a_run_that_brings_a_value_comes_to_its_end():
    requests = InOrder()
    requests.request_rerun(message("start", "8-9"))
    requests.on_scriptrunner_ready()
    requests.request_rerun(message("tune"))
    assert requests.on_scriptrunner_yield() is None
    requests.request_rerun(message("start", "8-10"))  # typed into the page that is still there
    assert seen(requests.on_scriptrunner_yield()) == ("start", ["8-10"])
    requests.request_rerun(message("noise"))  # the last click decides
    requests.request_rerun(
        message("noise", fragment_id="queue", is_auto_rerun=True)
    )  # a timer of the page that is left
    assert seen(requests.on_scriptrunner_ready()) == ("noise", [])


@pytest.mark.parametrize("under_way", [message("start"), message("start", "8-9", is_auto_rerun=True), message("", "8")])
def test_a_run_that_brings_nothing_is_ended_at_once(under_way):
    requests = InOrder()
    requests.request_rerun(under_way)
    requests.on_scriptrunner_ready()
    requests.request_rerun(message("tune"))
    assert seen(requests.on_scriptrunner_yield()) == ("tune", [])


def test_the_end_of_a_visit_is_no_page():
    requests = InOrder()
    requests.request_rerun(message("start", "8-9"))
    requests.on_scriptrunner_ready()
    requests.request_rerun(message("tune"))
    requests.request_stop()
    assert not requests.request_rerun(message("noise"))
    assert requests.on_scriptrunner_yield().type is ScriptRequestType.STOP
    assert requests.on_scriptrunner_ready().type is ScriptRequestType.STOP
